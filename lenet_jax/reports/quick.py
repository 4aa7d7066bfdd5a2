"""What the rows of `reproduce --quick` are."""

QUICK = (
    "These rows are of --quick: two epochs on at most a thousand of the embedded digits, two "
    "seeds. They show that everything runs, and are no result to compare with anything."
)
