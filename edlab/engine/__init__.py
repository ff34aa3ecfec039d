"""What runs a command line: its runs, one after another, and the table of them."""
