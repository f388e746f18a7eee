"""Why the readings do not tell of some faults, and which measurement would."""

WOULD_TELL: dict[str, str] = {
    "far-too-few-samples": (
        "The model is too small to learn the few samples by heart, so that neither loss tells; runs with more samples "
        "would."
    ),
    "labels-shuffled": (
        "Few samples are learnt by heart whatever their labels are, so the loss falls a little below that of guessing, "
        "and that of held-out samples happens to lie lower. A longer training or more held-out samples would tell."
    ),
    "rate-too-large": (
        "The loss of the batches falls fast and far, and what is lost shows on held-out samples; a factor of 2 to 3 is "
        "beyond what step lengths resolve. The loss on held-out samples, or a second run, would tell."
    ),
    "stem-and-body-far-too-fast": (
        "The head is at rest beside it, and units die in a few steps without a blow-up. Step over weight norm of each "
        "layer in the very first steps would tell; the balance of the layers is looked at after 50."
    ),
    "weight-decay-far-too-strong": (
        "The first batch happened to cost far more than the others, so the loss seems to have fallen. The first loss "
        "over many samples would tell."
    ),
}
WOULD_TELL["labels-of-the-sample-before"] = WOULD_TELL["labels-shuffled"]
