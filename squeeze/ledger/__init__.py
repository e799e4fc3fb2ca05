"""Every byte of files and folders, attributed to rows."""
