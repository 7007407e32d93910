"""A world whose features are known: slow ones that last for a stretch, fast ones drawn at every token.

Slow: `subjects` hidden Markov chains run side by side. A chain has a topic, or none, for a stretch of tokens;
then it goes on to another topic of the same domain or to any other state, as likely as not. A topic turns on
its own feature and its domain's, which so lasts longer. Fast: words are on or off at every token by
themselves, some of them more often within one topic, and turn on their kind's feature as well. Topics and
words have Zipf's frequencies. An activation is the sum of the features that are on, each with its direction
and a size that jitters, plus a mean that all tokens share, plus noise.

In the manner of SynthSAEBench (arXiv 2602.14687: Zipf frequencies, a hierarchy, directions in superposition),
with time.

Shapes: N features, B texts, L tokens, D width, S states of a chain, C chains, W words.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from temporal_saes.toy.options import ToyOptions

SAME_DOMAIN = 0.5  # share of the changes that stay in the domain
BOOST = 5.0  # how much more frequent a local word is in its topic


class Drawn(NamedTuple):
    """Texts of a world."""

    x_BLD: Tensor
    on_BLN: Tensor  # bool: which features are on


@dataclass(frozen=True)
class World:
    """Features: the topics of all chains, their domains, the words, their kinds."""

    options: ToyOptions
    directions_ND: Tensor
    """Of length 1."""
    is_slow_N: np.ndarray
    mean_D: Tensor
    home_W: np.ndarray
    """Of each word the topic that it belongs to, counted over all chains; -1 for none."""
    rate_W: np.ndarray
    """How often each word is on, outside its topic; with as much inside as `BOOST` says."""

    @classmethod
    def of(cls, options: ToyOptions, seed: int) -> Self:
        """A world that the options describe; directions and homes are drawn."""
        generator = np.random.default_rng([seed, 0])
        n = options.n_slow + options.n_fast
        directions_ND = generator.normal(size=(n, options.d_model))
        directions_ND /= np.linalg.norm(directions_ND, axis=1, keepdims=True)
        n_topics, n_words = options.subjects * options.domains * options.topics, options.kinds * options.words
        home_W = np.where(
            generator.random(n_words) < options.local, generator.integers(n_topics, size=n_words), -1
        )
        frequency_W = _zipf(n_words, options.zipf, generator)
        # a local word is more frequent in its topic, and so as frequent as Zipf says over all tokens
        topic_share_C = (1 - options.idle) * np.tile(
            _zipf(options.domains * options.topics, options.zipf), options.subjects
        )
        times_W = np.where(home_W < 0, 1.0, 1 + (BOOST - 1) * topic_share_C[home_W])
        rate_W = _rates(frequency_W, options.words_a_token) / times_W
        rate_W = np.where(home_W < 0, rate_W, np.minimum(rate_W, 1 / BOOST))
        world = cls(
            options,
            torch.from_numpy(directions_ND).float(),
            np.arange(n) < options.n_slow,
            torch.zeros(options.d_model),
            home_W,
            rate_W,
        )
        return world._with_mean(generator)

    def _with_mean(self, generator: np.random.Generator) -> Self:
        """The same, with the mean that has the share of the energy which is asked for."""
        x_TD = self.draw(200, [0, 1]).x_BLD.flatten(0, 1)
        centre_D = x_TD.mean(0)
        variance = float((x_TD - centre_D).square().sum(1).mean())
        share = self.options.mean_share
        target_D = torch.from_numpy(generator.normal(size=len(centre_D))).float()
        target_D *= (variance * share / (1 - share)) ** 0.5 / target_D.norm()
        # features are never negative, so that they have a mean of their own
        return type(self)(**{**vars(self), "mean_D": target_D - centre_D})

    def draw(self, n_texts: int, seed: list[int]) -> Drawn:
        """Independent texts."""
        options, generator = self.options, np.random.default_rng(seed)
        topic_BLC = self._topics(n_texts, generator)
        on_BLN = np.concatenate([self._slow(topic_BLC), self._fast(topic_BLC, generator)], axis=2)
        size_BLN = on_BLN * (1 + options.jitter * generator.normal(size=on_BLN.shape)).clip(0.1)
        noise_BLD = generator.normal(size=(*on_BLN.shape[:2], options.d_model)) * (
            options.noise / options.d_model**0.5
        )
        x_BLD = torch.from_numpy(size_BLN).float() @ self.directions_ND + self.mean_D
        return Drawn(x_BLD + torch.from_numpy(noise_BLD).float(), torch.from_numpy(on_BLN))

    def _topics(self, n_texts: int, generator: np.random.Generator) -> np.ndarray:
        """Of every chain its topic [B, L, C], from 0 within the chain; -1 for none."""
        options = self.options
        n_topics = options.domains * options.topics
        share_S = np.concatenate([(1 - options.idle) * _zipf(n_topics, options.zipf), [options.idle]])
        shape = (n_texts, options.subjects)

        def anew(share_S: np.ndarray) -> np.ndarray:
            return generator.choice(len(share_S), size=shape, p=share_S)

        state_BC = anew(share_S)
        topic_BLC = np.empty((n_texts, options.length, options.subjects), np.int64)
        for i in range(options.length):
            if i:
                other_BC = self._go_on(state_BC, share_S, anew(share_S), generator)
                state_BC = np.where(generator.random(shape) < 1 / options.stretch, other_BC, state_BC)
            topic_BLC[:, i] = np.where(state_BC == n_topics, -1, state_BC)
        return topic_BLC

    def _go_on(
        self, state_BC: np.ndarray, share_S: np.ndarray, anew_BC: np.ndarray, generator: np.random.Generator
    ) -> np.ndarray:
        """Where chains that change go: to a topic of the same domain, or anywhere.

        Without a topic counts as a domain of its own, so that all states keep their shares.
        """
        options = self.options
        n_topics = options.domains * options.topics
        within_BC = np.full(state_BC.shape, n_topics)
        for domain in range(options.domains):
            first = domain * options.topics
            share = share_S[first : first + options.topics]
            drawn_BC = first + generator.choice(options.topics, size=state_BC.shape, p=share / share.sum())
            within_BC = np.where(state_BC // options.topics == domain, drawn_BC, within_BC)
        return np.where(generator.random(state_BC.shape) < SAME_DOMAIN, within_BC, anew_BC)

    def _slow(self, topic_BLC: np.ndarray) -> np.ndarray:
        """Which topics and domains are on, chain by chain."""
        topics = np.arange(self.options.domains * self.options.topics)
        on_BLCS = topic_BLC[..., None] == topics
        domain_BLCS = on_BLCS.reshape(*topic_BLC.shape, self.options.domains, -1).any(-1)
        flat = (*topic_BLC.shape[:2], -1)
        return np.concatenate([on_BLCS.reshape(flat), domain_BLCS.reshape(flat)], axis=2)

    def _fast(self, topic_BLC: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Which words and kinds are on."""
        n_topics = self.options.domains * self.options.topics
        chain_W, topic_W = np.divmod(self.home_W, n_topics)
        is_home_BLW = (topic_BLC[..., chain_W.clip(0)] == topic_W) & (self.home_W >= 0)
        rate_BLW = np.where(is_home_BLW, BOOST * self.rate_W, self.rate_W)
        on_BLW = generator.random(rate_BLW.shape) < rate_BLW
        kind_BLK = on_BLW.reshape(*on_BLW.shape[:2], self.options.kinds, -1).any(-1)
        return np.concatenate([on_BLW, kind_BLK], axis=2)


def _zipf(n: int, exponent: float, generator: np.random.Generator | None = None) -> np.ndarray:
    """Shares that fall as 1 / rank^exponent and sum to 1; in random order with a generator."""
    share = 1 / np.arange(1, n + 1) ** exponent
    if generator is not None:
        generator.shuffle(share)
    return share / share.sum()


def _rates(share_W: np.ndarray, total: float) -> np.ndarray:
    """Rates in proportion to the shares, of sum `total`; none is above one half, others have the rest."""
    rate_W = np.zeros_like(share_W)
    is_full_W = np.zeros(len(share_W), bool)
    highest = max(0.5, total / len(share_W))
    while True:
        rest = total - highest * is_full_W.sum()
        rate_W = np.where(is_full_W, highest, share_W * rest / share_W[~is_full_W].sum())
        is_over_W = rate_W > highest * (1 + 1e-12)
        if not is_over_W.any():
            return rate_W
        is_full_W |= is_over_W
