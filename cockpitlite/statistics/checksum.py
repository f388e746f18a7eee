"""A checksum of a tensor's bytes that needs no copy to the host and does not depend on the order of summation."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

_WIDTH = 1024  # words that are added up to one
_AT_ONCE = 2**22  # words that are multiplied at once, so that a large input is not held twice


def checksum(tensor: Tensor) -> Tensor:
    """Return a whole number, int64, that tells a tensor's bytes from others: a sum over words with random weights.

    Word by word of 64 bits, x_rj, in rows of 1024: Σ_r w_r f(Σ_j w_j f(x_rj)) + the number of words, modulo 2^64, with
    odd w and f(x) = x ^ (x >> 32), which is left out in the innermost sum of numbers shorter than a word: it is there
    for float64, whose lower half is often 0. Two tensors share one by a chance of 2^-41 at most.
    """
    words = _words(tensor)
    weights = _weights(words.device)
    count = len(words)
    if tensor.element_size() == 8:
        words = words ^ (words >> 32)
    while len(words) > 1:
        rows = words.split(_AT_ONCE)
        sums = [(part.view(-1, _WIDTH) * weights).sum(1) for part in map(_in_rows, rows)]
        words = sums[0] if len(sums) == 1 else torch.cat(sums)
        words = words ^ (words >> 32)
    return words[0] + count


def _words(tensor: Tensor) -> Tensor:
    """Return a tensor's bytes as words, filled up with zeros to whole rows; a copy only where that is needed."""
    numbers = tensor.detach().flatten()
    size = numbers.numel() * numbers.element_size()
    offset = numbers.storage_offset() * numbers.element_size()
    if size and size % (8 * _WIDTH) == 0 and offset % 8 == 0 and not numbers.is_conj() and not numbers.is_neg():
        return numbers.view(torch.int64)
    words = torch.empty(max(1, -(-size // (8 * _WIDTH))) * _WIDTH, dtype=torch.int64, device=tensor.device)
    room = words.view(numbers.dtype)
    room[numbers.numel() :].zero_()
    room[: numbers.numel()].copy_(numbers)
    return words


def _in_rows(words: Tensor) -> Tensor:
    missing = -len(words) % _WIDTH
    return torch.nn.functional.pad(words, (0, missing)) if missing else words


@functools.cache
def _weights(device: torch.device) -> Tensor:
    return torch.tensor([_weight(index) for index in range(_WIDTH)], device="cpu").to(device, non_blocking=True)


def _weight(index: int) -> int:
    """Return an odd number of 64 bits that looks random: SplitMix64 (Steele et al. 2014) from ``index``."""
    mixed = (index + 1) * 0x9E3779B97F4A7C15 % 2**64
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
    odd = (mixed ^ (mixed >> 31)) | 1
    return odd - 2**64 if odd >= 2**63 else odd
