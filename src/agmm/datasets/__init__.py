"""Where the labels lie on disk: path and format to records."""
