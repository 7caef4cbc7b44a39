"""PyTorch's side of docs/benchmarks.md for CLIP and the detector: the layers that the originals run, random weights, f32.

    python networks.py NETWORK [BATCH] [THREADS]

NETWORK: image-b32, image-b16, image-rn50, text-b32, detector-backbone, detector-heads (300 regions of a feature
map, pooled by torchvision's roi_pool). Prints the median and the least of 5 runs and
the processor time of one, in milliseconds.
"""

import sys
import time

import torch
import torchvision
from torch import nn
from torch.nn import functional as F

RUNS = 5


class QuickGelu(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """A residual block on [positions, batch, width], as openai/CLIP arranges it."""

    def __init__(self, width, mask=None):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, width // 64)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), QuickGelu(), nn.Linear(4 * width, width))
        self.mask = mask

    def forward(self, x):
        normed = self.norms[0](x)
        x = x + self.attention(normed, normed, normed, need_weights=False, attn_mask=self.mask)[0]
        return x + self.mlp(self.norms[1](x))


class Vit(nn.Module):
    def __init__(self, width, patch, layers, embed):
        super().__init__()
        self.conv = nn.Conv2d(3, width, patch, patch, bias=False)
        self.cls = nn.Parameter(torch.randn(width))
        self.places = nn.Parameter(torch.randn((224 // patch) ** 2 + 1, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.blocks = nn.Sequential(*[Block(width) for _ in range(layers)])
        self.projection = nn.Parameter(torch.randn(width, embed))

    def forward(self, x):
        x = self.conv(x).flatten(2).permute(0, 2, 1)
        x = torch.cat([self.cls + torch.zeros(x.shape[0], 1, x.shape[-1]), x], 1) + self.places
        x = self.blocks(self.norms[0](x).permute(1, 0, 2)).permute(1, 0, 2)
        return self.norms[1](x[:, 0]) @ self.projection


class Text(nn.Module):
    def __init__(self, width, layers, embed, context=77):
        super().__init__()
        mask = torch.full((context, context), float("-inf")).triu(1)
        self.table = nn.Embedding(49408, width)
        self.places = nn.Parameter(torch.randn(context, width))
        self.blocks = nn.Sequential(*[Block(width, mask) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Parameter(torch.randn(width, embed))

    def forward(self, tokens):
        x = (self.table(tokens) + self.places).permute(1, 0, 2)
        x = self.norm(self.blocks(x).permute(1, 0, 2))
        return x[torch.arange(x.shape[0]), tokens.argmax(-1)] @ self.projection


def conv_norm(inputs, outputs, kernel, stride=1, spread=1):
    padding = kernel // 2 * spread
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, spread, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Bottleneck(nn.Module):
    def __init__(self, inputs, middle, stride, spread=1, clip=False):
        super().__init__()
        first = 1 if clip else stride
        self.pool = nn.AvgPool2d(stride) if clip and stride > 1 else nn.Identity()
        self.convs = nn.ModuleList([
            conv_norm(inputs, middle, 1, first), conv_norm(middle, middle, 3, 1, spread), conv_norm(middle, 4 * middle, 1)
        ])
        self.shortcut = conv_norm(inputs, 4 * middle, 1, first) if inputs != 4 * middle else None

    def forward(self, x):
        y = F.relu(self.convs[0](x))
        y = self.pool(F.relu(self.convs[1](y)))
        x = x if self.shortcut is None else self.shortcut(self.pool(x))
        return F.relu(self.convs[2](y) + x)


def stages(widths, blocks, strides, channels, **how):
    layers = []
    for width, count, stride in zip(widths, blocks, strides):
        for block in range(count):
            layers.append(Bottleneck(channels, width, stride if block == 0 else 1, **how))
            channels = 4 * width
    return nn.Sequential(*layers)


class ClipResNet(nn.Module):
    def __init__(self, embed=1024):
        super().__init__()
        self.stem = nn.Sequential(
            conv_norm(3, 32, 3, 2), nn.ReLU(), conv_norm(32, 32, 3), nn.ReLU(), conv_norm(32, 64, 3), nn.ReLU(),
            nn.AvgPool2d(2))
        self.stages = stages((64, 128, 256, 512), (3, 4, 6, 3), (1, 2, 2, 2), 64, clip=True)
        self.places = nn.Parameter(torch.randn(50, 1, 2048))
        self.projections = nn.ModuleList([nn.Linear(2048, 2048) for _ in range(3)] + [nn.Linear(2048, embed)])

    def forward(self, x):
        x = self.stages(self.stem(x)).flatten(2).permute(2, 0, 1)
        x = torch.cat([x.mean(0, keepdim=True), x]) + self.places
        query, key, value, out = self.projections
        heads = lambda x: x.reshape(x.shape[0], -1, 64).transpose(0, 1)
        context = F.scaled_dot_product_attention(heads(query(x[:1])), heads(key(x)), heads(value(x)))
        return out(context.transpose(0, 1).reshape(-1, 2048))


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.stage = stages((512,), (3,), (1,), 1024, spread=2)
        self.scores, self.boxes = nn.Linear(2048, 1601), nn.Linear(2048, 6400)
        self.table, self.hidden, self.attributes = nn.Embedding(1601, 256), nn.Linear(2304, 512), nn.Linear(512, 401)

    def forward(self, inputs):
        features_map, boxes = inputs
        pooled = torchvision.ops.roi_pool(features_map, [boxes], 14, 1 / 16)
        features = self.stage(pooled).mean((2, 3))
        scores = self.scores(features)
        attributes = torch.cat([features, self.table(scores.argmax(-1))], -1)
        return scores, self.boxes(features), self.attributes(F.relu(self.hidden(attributes)))


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = conv_norm(3, 64, 7, 2)
        self.stages = stages((64, 128, 256), (3, 4, 23), (1, 2, 2), 64)
        self.hidden = nn.Conv2d(1024, 512, 3, 1, 1)
        self.objectness, self.deltas = nn.Conv2d(512, 12, 1), nn.Conv2d(512, 48, 1)

    def forward(self, image):
        x = F.max_pool2d(F.relu(self.stem(image)), 3, 2, ceil_mode=True)
        x = self.stages(x)
        hidden = F.relu(self.hidden(x))
        return x, self.objectness(hidden), self.deltas(hidden)


def boxes(count):
    """Sides of 10 to 310 and 10 to 260 pixels, as benches/networks.rs draws them."""
    corner, size = torch.rand(count, 2), torch.rand(count, 2)
    corner, size = corner * torch.tensor([700, 500]), size * torch.tensor([300, 250]) + 10
    return torch.cat([corner, corner + size], 1)


def network(name, batch):
    image = torch.randn(batch, 3, 224, 224)
    return {
        "image-b32": lambda: (Vit(768, 32, 12, 512), image),
        "image-b16": lambda: (Vit(768, 16, 12, 512), image),
        "image-rn50": lambda: (ClipResNet(), image),
        "text-b32": lambda: (Text(512, 12, 512), torch.randint(1, 40000, (batch, 77))),
        "detector-backbone": lambda: (Backbone(), torch.randn(1, 3, 800, 1067)),
        "detector-heads": lambda: (Heads(), (torch.rand(1, 1024, 50, 67), boxes(300))),
    }[name]()


def main():
    name, batch = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    if len(sys.argv) > 3:
        torch.set_num_threads(int(sys.argv[3]))
    with torch.no_grad():
        model, inputs = network(name, batch)
        model.eval()
        model(inputs)
        times, before = [], time.process_time()
        for _ in range(RUNS):
            start = time.perf_counter()
            model(inputs)
            times.append((time.perf_counter() - start) * 1e3)
        processor = (time.process_time() - before) * 1e3 / RUNS
    print(f"{name}: median {sorted(times)[RUNS // 2]:.1f} ms, least {min(times):.1f} ms, processor {processor:.0f} ms")


main()
