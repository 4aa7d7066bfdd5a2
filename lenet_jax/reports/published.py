"""What others have published of these systems; what a page's own row aims at stands in the page."""

# Fig. 5 of the paper, read from its vector points (+-0.02): the error in percent on the training
# set, on the fly, and on the test set after epochs 1 to 20.
FIG_5_TRAIN = (
    *(4.89, 3.05, 1.77, 1.48, 1.22, 0.91, 0.78, 0.70, 0.57, 0.49),
    *(0.47, 0.44, 0.41, 0.39, 0.39, 0.39, 0.39, 0.36, 0.36, 0.36),
)

FIG_5_TEST = (
    *(2.65, 2.24, 1.48, 1.43, 1.43, 1.09, 1.04, 1.06, 0.99, 0.96),
    *(0.96, 0.99, 0.96, 0.96, 0.96, 0.96, 0.96, 0.96, 0.96, 0.96),
)

# Fig. 6 of the paper: examples, and the error on the test set in percent; with distortions.
FIG_6 = {15_000: 1.68, 30_000: 1.14, 60_000: 0.94}

FIG_6_DISTORTED = {60_000: 0.82}

# Fig. 10 of the paper: percent rejected for an error of 0.5 %.
FIG_10 = {"LeNet-4": 1.8, "boosted LeNet-4": 0.5}

# Accuracy on the training set in percent that the tutorial prints after some epochs.
TUTORIAL = {
    **{1: 86.35, 2: 96.67, 3: 97.48, 4: 97.89, 5: 98.09},
    **{10: 98.71, 20: 99.20, 30: 99.49, 40: 99.60, 50: 99.65},
}

TUTORIAL_TEST = 98.46  # after its 50 epochs

# Section III-C.9: how many networks of boosted LeNet-4 are asked for a digit, on average.
BOOSTED_CALLS = 1.75

# The tutorial's loss on the test set after its 50 epochs.
TUTORIAL_LOSS = 0.0744

# Nielsen's book, chapter 6: what the vote of his five networks misclassifies; epochs of his rungs,
# and of the one with dropout.
NIELSEN_VOTE_ERRORS = 33
NIELSEN_EPOCHS, NIELSEN_DROPOUT_EPOCHS = 60, 40
