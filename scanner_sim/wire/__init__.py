"""The scanner's end of the wire: C-STORE at a scanner's pace, and what goes wrong with it."""
