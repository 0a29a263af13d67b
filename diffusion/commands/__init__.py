"""What each script runs, under the script's name; scripts/ holds flags and help alone."""
