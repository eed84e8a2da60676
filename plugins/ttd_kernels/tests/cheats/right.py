# What cheats start from: a program that is right, in PyTorch. Put before each of them.
import torch
from torch.nn.functional import layer_norm, linear


def right(data):
    x, mask, weights, config = data
    y = layer_norm(x, (config["dim"],), weights["norm.weight"], weights["norm.bias"], 1e-5)
    keep = mask.unsqueeze(-1).to(torch.float32)
    left = linear(y, weights["left_proj.weight"]) * keep * linear(y, weights["left_gate.weight"]).sigmoid()
    right = linear(y, weights["right_proj.weight"]) * keep * linear(y, weights["right_gate.weight"]).sigmoid()
    pairs = torch.einsum("bikh,bjkh->bijh", left, right)
    hidden = config["hidden_dim"]
    pairs = layer_norm(pairs, (hidden,), weights["to_out_norm.weight"], weights["to_out_norm.bias"], 1e-5)
    return linear(pairs * linear(y, weights["out_gate.weight"]).sigmoid(), weights["to_out.weight"])
