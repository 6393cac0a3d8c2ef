"""Slow references of generation under an edit: every step runs all tokens anew, with the edit laid over them by hand.

The reference does not ask the package which cells an edit means: it makes that mask itself, from the columns.
"""

from dataclasses import dataclass
from functools import cache

import torch
from hooks.conformance.tiny import VOCABULARY, build

import mas_hooks as mh
from mas_hooks.hooks import generation

STEPS, LENGTH = 5, 7
STARTS = (3, 0)  # the first real column of each row: padded on the left, and ragged
CELLS = [(0, 4), (1, 0), (0, LENGTH), (1, LENGTH + 1), (0, LENGTH + STEPS - 2), (1, 6)]
WHERE = ["prompt", "generated", "every", CELLS]
FAMILIES = ["gpt2", "qwen2", "mistral-sliding", "bloom"]
POST = "blocks.1.hook_resid_post"
MODES = {
    "cache": {},
    "no cache": {"use_cache": False},
    "chunked prefill": {"prefill_chunk_size": 3},
    "static cache": {"cache_implementation": "static"},
}


@cache
def model(family):
    """A tiny model that never stops early, made once a session; leave it as it is."""
    return build(family, eos_token_id=None)


def bold(h):
    """The edit of these tests: strong enough to change what is written, another at each token."""
    return 3 * torch.cos(1.7 * torch.arange(h.shape[-1])) - h.flip(-1)


def prompts(rows=(0, 1), starts=STARTS):
    """Left-padded prompts."""
    ids = torch.randint(1, VOCABULARY, (len(starts), LENGTH), generator=torch.Generator().manual_seed(4))
    mask = (torch.arange(LENGTH) >= torch.tensor(starts)[:, None]).long()
    return {"input_ids": (ids * mask)[list(rows)], "attention_mask": mask[list(rows)]}


@dataclass
class Plan:
    """An edit as the reference knows it: fn at the (row, column) cells, or at every cell of a scope."""

    name: str
    where: str | list
    fn: object = bold

    def edit(self, own):
        """The same for the package."""
        where = self.where if isinstance(self.where, str) else mh.Where(*zip(*self.where, strict=True))
        return mh.Edit(own.at(self.name), self.fn, where)

    def chosen(self, row, mask):
        """Which columns of a row are meant: (position,) bool, from the row's mask."""
        columns = torch.arange(len(mask))
        if not isinstance(self.where, str):
            return torch.tensor([(row, int(column)) in self.where for column in columns])
        if self.where == "generated":
            return columns >= LENGTH
        return mask.bool() & ((columns < LENGTH) | (self.where == "every"))


def hooks_of(own):
    """How many hooks of any kind are on the model."""
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in own.module.modules())


def generated(own, plan, inputs, **settings):
    """What `generate` of the package gives under a plan; no hook is left."""
    before = hooks_of(own)
    with own.hooks([] if plan is None else [plan.edit(own)]):
        found = own.generate(inputs, **({"max_new_tokens": STEPS, "do_sample": False} | settings))
    assert hooks_of(own) == before
    assert generation.current_call() is None
    return found


def whole_logits(own, plan, row, ids, mask):
    """(sequences, vocabulary) after the last token of sequences that all began with prompt `row`."""
    chosen = torch.zeros(len(mask), dtype=torch.bool) if plan is None else plan.chosen(row, mask)
    inputs = {"input_ids": ids, "attention_mask": mask.expand(len(ids), -1)}
    if plan is None:
        return own.forward(inputs)[:, -1]
    over = (plan.name, lambda h: torch.where(chosen[:, None], plan.fn(h), h))
    return own.run_with_hooks(inputs, [over])[:, -1]


def longer(ids, mask, following):
    """The sequences and their mask with one more token each."""
    return torch.cat([ids, following[:, None]], 1), torch.cat([mask, torch.ones(1, dtype=mask.dtype)])


def greedy(own, plan, inputs):
    """Ids (batch, LENGTH + STEPS) and the logits of each step (batch, STEPS, vocabulary)."""
    found, logits = [], []
    for row in range(len(inputs["input_ids"])):
        ids, mask, own_logits = inputs["input_ids"][[row]], inputs["attention_mask"][row], []
        for _ in range(STEPS):
            own_logits.append(whole_logits(own, plan, row, ids, mask))
            ids, mask = longer(ids, mask, own_logits[-1].argmax(-1))
        found.append(ids)
        logits.append(torch.cat(own_logits))
    return torch.cat(found), torch.stack(logits)


def beams(own, plan, inputs, width, kept):
    """The `kept` most likely of `width` beams of each prompt."""
    found = []
    for row in range(len(inputs["input_ids"])):
        ids, mask, scores = inputs["input_ids"][[row]], inputs["attention_mask"][row], torch.zeros(1)
        for _ in range(STEPS):
            totals = scores[:, None] + whole_logits(own, plan, row, ids, mask).log_softmax(-1)
            scores, best = totals.flatten().topk(width)
            ids, mask = longer(ids[best // VOCABULARY], mask, best % VOCABULARY)
        found.append(ids[:kept])
    return torch.cat(found)


def samples(own, plan, inputs, repeats, seed):
    """`repeats` sampled sequences of each prompt, drawn as transformers draws them: all rows of a step at once."""
    torch.manual_seed(seed)
    rows = [row for row in range(len(inputs["input_ids"])) for _ in range(repeats)]
    sequences = [inputs["input_ids"][[row]] for row in rows]
    masks = [inputs["attention_mask"][row] for row in rows]
    for _ in range(STEPS):
        steps = zip(rows, sequences, masks, strict=True)
        odds = torch.cat([whole_logits(own, plan, row, ids, mask) for row, ids, mask in steps]).softmax(-1)
        drawn = torch.multinomial(odds, 1)
        both = [longer(ids, mask, token) for ids, mask, token in zip(sequences, masks, drawn, strict=True)]
        sequences, masks = [ids for ids, _ in both], [mask for _, mask in both]
    return torch.cat(sequences)
