"""Pictures: functions from arrays to images."""
