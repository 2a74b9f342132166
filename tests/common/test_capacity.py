"""The search for the largest batch."""

import pytest

from edgesplit.common.capacity import largest_batch


@pytest.mark.parametrize("limit", [1, 2, 7, 64, 100])
@pytest.mark.parametrize("truth", [0, 1, 2, 3, 5, 8, 63, 64, 65, 1000])
def test_it_finds_the_largest_batch_that_fits_in_few_tries(truth, limit):
    tried = []

    def fits(batch):
        tried.append(batch)
        return batch <= truth

    assert largest_batch(fits, limit) == min(truth, limit)
    assert max(tried) <= limit
    assert len(tried) == len(set(tried)) <= 2 * limit.bit_length()
