"""What each command of ``iceball`` does: arguments in, exit status out."""

NOTICE = "Research software: it informs, it never decides. Not a medical device."
# What can be typed while a procedure runs headless (``typed``).
ACTS = """\
  next                 start the freeze, or the next phase
  acknowledge          all alarms
  clear                a block for a wrong patient
  baseline v002        which scan is the baseline
  accept, reject       the ice measured last
  needle 2=0           needle 2 was stopped; 100: it cools fully
  what if 2=0          what would come of needle 2 stopping now
  what if all=50 for 5 of half duty, the freeze going on for 5 minutes
  open FILE, reload    another case; the same one, which was edited
  undo                 the last of needle, accept, reject and baseline; next, for 30 s
  quit                 end the procedure"""
