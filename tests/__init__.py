"""Tests, in the folders of the package; support/ has what several of them share."""
