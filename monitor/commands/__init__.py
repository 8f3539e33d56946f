"""What each command of ``iceball`` does: arguments in, exit status out."""

NOTICE = "Research software: it informs, it never decides. Not a medical device."
