"""What a problem asks and how an answer is graded; evaluation of policies."""
