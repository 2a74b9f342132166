"""The number of threads: the fastest, the smallest of equals, and no long search where steps are slow."""

import pytest
import torch

from edgesplit.diffusion.inference.threads import choose_threads, counts_up_to, fastest_threads


@pytest.mark.parametrize(
    ("most", "counts"),
    [(1, [1]), (2, [1, 2]), (5, [1, 2, 3, 4, 5]), (8, [1, 2, 3, 4, 6, 8]), (20, [1, 2, 3, 4, 6, 8, 12, 16, 20])],
)
def test_one_and_all_cores_are_among_what_is_tried(most, counts):
    assert counts_up_to(most) == counts


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({1: 1.0, 2: 0.52, 3: 0.36, 4: 0.28}, 4),  # a large model on quiet cores
        ({1: 1.0, 2: 1.2}, 1),  # a small one
        ({1: 1.0, 2: 10.0}, 1),  # the second core is busy
        ({1: 1.0, 2: 0.51, 3: 0.36, 4: 2.0}, 3),  # the fourth is
        ({1: 1.0, 2: 0.6, 3: 0.59, 4: 0.58}, 2),  # equal but for a few per cent
        ({1: 1.0, 2: 0.97}, 1),
        ({1: 5.0}, 1),
    ],
)
def test_the_fastest_number_is_chosen_and_of_equals_the_smallest(seconds, chosen):
    assert choose_threads(lambda threads: seconds[threads], max(seconds)) == chosen


def test_one_slow_step_among_quick_ones_does_not_decide():
    calls = []

    def step_s(threads):
        calls.append(threads)
        return 0.1 if len(calls) in (1, 3) else 0.01 / threads

    assert choose_threads(step_s, 2) == 2


def test_slow_steps_are_timed_once_and_fewer_threads_are_not_tried_where_they_cannot_win():
    calls = []

    def step_s(threads):
        calls.append(threads)
        return 64.0 / threads

    assert choose_threads(step_s, 64) == 64
    assert calls == [64, 64, 48, 32]


def test_torch_computes_with_what_was_chosen_and_that_is_said(monkeypatch, capsys):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    tried = set()
    try:
        torch.set_num_threads(2)
        threads = fastest_threads(lambda: tried.add(torch.get_num_threads()), "command")
        assert threads == torch.get_num_threads()
        assert tried == {1, 2}
    finally:
        torch.set_num_threads(before)
    said = capsys.readouterr().err
    assert f"command: computes with {threads} CPU thread" in said
    assert said.count("\n") == 1


def test_the_user_s_own_number_is_taken_without_a_trial(monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    assert fastest_threads(pytest.fail, "command") == torch.get_num_threads()
    assert capsys.readouterr().err == ""
