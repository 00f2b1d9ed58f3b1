"""Moving averages."""


def mean(values):
    """The mean of all values that are numbers.

    Raises ValueError for none.
    """
    if not values:
        raise ValueError
    return sum(values) / len(values)
