"""Logits of small models by Hugging Face transformers' own classes, in float64 on the CPU.

Bridgekeeper's selftest runs this beside itself; nothing that serves does. One JSON document a line:

  out  {"ready": {"torch": "...", "transformers": "..."}}     or {"skipped": "why"}, and the end
  in   {"folder": "...", "sequences": [[1, 2, 3], [4, 5]]}
  out  {"vocabulary": 384, "logits": ["<base64>", "<base64>"]} or {"error": "what"}

Logits are little-endian float64 [tokens, vocabulary], one text for each sequence. Weights that are
stored as FP8, MXFP4 or integers of 4 bits are multiplied by their scales here, so that no kernel
for these is needed; what transformers would do to activations is left out, as in the engine.
"""

import base64
import json
import os
import sys


def reply(document):
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def scaled(codes, scales, quantization):
    """FP8 codes [outputs, inputs] times their scales: one, one for each output, or for each block."""
    values = codes.to(torch.float64)
    scales = scales.to(torch.float64)
    group = quantization.get("config_groups", {}).get("group_0", {}).get("weights", {})
    block = quantization.get("weight_block_size") or group.get("block_structure")
    if block:
        rows = scales.repeat_interleave(block[0], dim=0)[: values.shape[0]]
        return values * rows.repeat_interleave(block[1], dim=1)[:, : values.shape[1]]
    return values * (scales.reshape(-1, 1) if scales.numel() > 1 else scales.reshape(()))


E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0]


def unpacked(blocks, scales):
    """MXFP4 [experts, outputs, blocks, 16] as [experts, outputs, inputs]; low halves come first."""
    values = torch.tensor(E2M1, dtype=torch.float64)
    codes = torch.stack([blocks & 15, blocks >> 4], dim=-1).flatten(-2).long()
    powers = torch.pow(2.0, scales.to(torch.float64) - 127)
    return (values[codes] * powers.unsqueeze(-1)).flatten(-2)


SHIFTS = range(0, 32, 4)
# Where AutoAWQ puts each of eight outputs in a word.
AWQ_PLACES = [0, 4, 1, 5, 2, 6, 3, 7]


def along_rows(words, places=range(8)):
    """Words [rows, columns] of eight codes as [rows, 8 columns]."""
    codes = torch.stack([words >> shift & 15 for shift in SHIFTS], dim=-1)
    return codes[..., list(places)].flatten(-2)


def along_columns(words):
    """Words [rows, columns] of eight codes as [8 rows, columns]."""
    return along_rows(words.T.contiguous()).T


def integers(stored, module, quantization):
    """The weight [outputs, inputs] of a module that is stored in 4 bits."""
    method = quantization["quant_method"]
    if method == "compressed-tensors":
        codes = along_rows(stored[module + ".weight_packed"])
        scales = stored[module + ".weight_scale"]
        zeros = stored.get(module + ".weight_zero_point")
        zeros = torch.full(scales.shape, 8) if zeros is None else along_columns(zeros)
    else:
        isAwq = method == "awq"
        codes = stored[module + ".qweight"]
        codes = (along_rows(codes, AWQ_PLACES) if isAwq else along_columns(codes)).T
        zeros = along_rows(stored[module + ".qzeros"], AWQ_PLACES if isAwq else range(8)).T
        zeros = zeros + (1 if method == "gptq" and quantization.get("checkpoint_format") != "gptq_v2" else 0)
        scales = stored[module + ".scales"].T
    group = codes.shape[1] // scales.shape[1]
    wide = [part.to(torch.float64).repeat_interleave(group, dim=1) for part in (zeros, scales)]
    return (codes.to(torch.float64) - wide[0]) * wide[1]


BESIDE_INTEGERS = (".scales", ".qzeros", ".g_idx", ".weight_zero_point", ".weight_shape")


def stacked(model, weights):
    """Experts as the classes have them: all of a layer in one tensor; gpt-oss' are transposed."""
    for key, parameter in model.state_dict().items():
        if ".experts." not in key or not key.endswith("_proj"):
            continue
        if key in weights and model.config.model_type != "gpt_oss":
            continue
        if model.config.model_type == "gpt_oss":
            weights[key] = weights[key].transpose(1, 2)
            continue
        prefix, which = key.rsplit(".", 1)
        names = ["down_proj"] if which == "down_proj" else ["gate_proj", "up_proj"]
        experts = [
            torch.cat([weights.pop(f"{prefix}.{expert}.{name}.weight") for name in names])
            for expert in range(parameter.shape[0])
        ]
        weights[key] = torch.stack(experts)
    return weights


def renamed(key):
    """MiniMax's own names for what the class calls as others do."""
    for own, usual in ((".block_sparse_moe.", ".mlp."), (".w1.", ".gate_proj."), (".w2.", ".down_proj."), (".w3.", ".up_proj.")):
        key = key.replace(own, usual)
    return key


def load(folder):
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        settings = json.load(file)
    quantization = settings.pop("quantization_config", None) or {}
    name = settings.pop("architectures")[0]
    # What type the weights are stored in says nothing of what is computed here.
    for key in ("torch_dtype", "dtype"):
        settings.pop(key, None)
    rope = settings.get("rope_parameters") or {}
    # Of all layers, or by type of layer.
    for each in [part for part in rope.values() if isinstance(part, dict)] or [rope]:
        numbers = {key: value for key, value in each.items() if type(value) is int}
        numbers.pop("original_max_position_embeddings", None)
        each.update({key: float(value) for key, value in numbers.items()})
    model_class = getattr(transformers, name)
    config = model_class.config_class(**settings)
    # Plain products and softmaxes, which take any type.
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    model = model_class(config).to(torch.float64).eval()
    # The classes of some versions have gpt-oss' published limit written into them.
    for module in model.modules():
        if "swiglu_limit" in settings and hasattr(module, "limit"):
            module.limit = settings["swiglu_limit"]
    stored = load_file(os.path.join(folder, "model.safetensors"))
    weights = {}
    for key, tensor in stored.items():
        if key.endswith(("weight_scale", "weight_scale_inv", "_scales", *BESIDE_INTEGERS)):
            continue
        if key.endswith((".qweight", ".weight_packed")):
            module = key.rsplit(".", 1)[0]
            weights[module + ".weight"] = integers(stored, module, quantization)
            continue
        if key.endswith("_blocks"):
            name = key.removesuffix("_blocks")
            weights[name] = unpacked(tensor, stored[name + "_scales"])
            continue
        scales = stored.get(key + "_scale_inv", stored.get(key + "_scale"))
        whole = tensor.to(torch.float64) if scales is None else scaled(tensor, scales, quantization)
        weights[renamed(key)] = whole
    if settings.get("tie_word_embeddings"):
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model.load_state_dict(stacked(model, weights), strict=True)
    return model


def answer(request):
    model = load(request["folder"])
    logits = []
    with torch.no_grad():
        for tokens in request["sequences"]:
            lines = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
            vocabulary = lines.shape[-1]
            values = lines.to(torch.float64).contiguous().numpy().astype("<f8")
            logits.append(base64.b64encode(values.tobytes()).decode("ascii"))
    return {"vocabulary": vocabulary, "logits": logits}


try:
    import torch
    import transformers
    from safetensors.torch import load_file
except ImportError as missing:
    reply({"skipped": f"no {missing.name} in this Python"})
    sys.exit(0)

reply({"ready": {"torch": torch.__version__, "transformers": transformers.__version__}})
for line in sys.stdin:
    try:
        reply(answer(json.loads(line)))
    except Exception as fault:  # The selftest reports it with the model's name and goes on.
        reply({"error": f"{type(fault).__name__}: {fault}"})
