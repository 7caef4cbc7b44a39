"""The ImageCoDe baselines' side of the training benchmark: their own model, loss and optimiser, on random features and real
descriptions. Prints one JSON line for each measurement.

    python training.py CHECKOUT/baselines/crossencoders CONFIG.json ANNOTATIONS.json VOCAB.txt [--sets 4] [--rounds 3]

Needs torch, numpy and pytorch_transformers 1.2.0 with what it imports. Their scripts call `.cuda()`; the loop below is
`contra.py`'s without it: ten rows a set, all padded to 120 tokens, dropout on, clipping, AdamW, a new gradient each step.
"""

import argparse
import json
import os
import random
import resource
import sys
import time


def main():
    options = argparse.ArgumentParser()
    options.add_argument("code")
    options.add_argument("config")
    options.add_argument("annotations")
    options.add_argument("vocabulary")
    options.add_argument("--sets", type=int, default=4)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--tokens", type=int, default=120)
    options = options.parse_args()
    sys.path.insert(0, options.code)

    import torch
    from pytorch_transformers.optimization import AdamW
    from pytorch_transformers.tokenization_bert import BertTokenizer
    from volta.config import BertConfig
    from volta.encoders import BertForVLTasks

    torch.manual_seed(0)
    random.seed(0)
    config = BertConfig.from_json_file(options.config)
    model = BertForVLTasks(config, {"TASK3": {"type": "VL-logit"}}, ["TASK3"])
    no_decay = ["bias", "LayerNorm.bias", "LayerNorm.weight"]
    groups = [
        {"params": [value], "lr": 2e-5, "weight_decay": 0.0 if any(part in name for part in no_decay) else 1e-4}
        for name, value in model.named_parameters()
    ]
    optimizer = AdamW(groups, lr=2e-5, eps=1e-6, betas=(0.9, 0.999), correct_bias=True)
    tokenizer = BertTokenizer(options.vocabulary)
    descriptions = [text for texts in json.load(open(options.annotations)).values() for text in texts.values()]

    def batch():
        ids, mask = [], []
        for text in random.sample(descriptions, options.sets):
            tokens = tokenizer.encode(text, add_special_tokens=True)[: options.tokens]
            padding = options.tokens - len(tokens)
            ids += 10 * [tokens + [0] * padding]
            mask += 10 * [[1] * len(tokens) + [0] * padding]
        rows, regions = len(ids), 37
        ids, mask = torch.tensor(ids), torch.tensor(mask)
        features = torch.rand(rows, regions, config.v_feature_size)
        locations = torch.rand(rows, regions, config.num_locs)
        image_mask = torch.ones(rows, regions, dtype=torch.long)
        return ids, features, locations, "TASK3", torch.zeros_like(ids), mask, image_mask

    def train(inputs):
        scores = model(*inputs)[0]
        loss = torch.nn.functional.cross_entropy(scores.view(-1, 10), torch.zeros(options.sets, dtype=torch.long))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.zero_grad()

    def evaluate(inputs):
        with torch.no_grad():
            model(*inputs)

    name = os.path.basename(options.config).removesuffix(".json")
    for what, work in (("train", train), ("eval", evaluate)):
        model.train(what == "train")
        seconds = []
        for _ in range(options.rounds + 1):
            inputs = batch()
            start = time.perf_counter()
            work(inputs)
            seconds.append(time.perf_counter() - start)
        # The first one allocates what the others reuse.
        seconds = seconds[1:]
        print(
            json.dumps(
                {
                    "side": "imagecode",
                    "model": name,
                    "precision": "f32",
                    "work": what,
                    "sets": options.sets,
                    "sets_per_second": options.sets * len(seconds) / sum(seconds),
                    "best_sets_per_second": options.sets / min(seconds),
                    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
