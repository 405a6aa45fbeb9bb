"""A LoRA adapter, merged into a checkpoint's tensors one by one, as they are read.

The names of the adapter's tensors decide what is merged; the rules are those of PEFT's
`merge_and_unload` (0.21). Its `fan_in_fan_out` means nothing here: this model has no layer whose
matrix is stored as [in out].
"""

import dataclasses
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from rgpipeline.errors import WeightsError
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.weights import adapter_config, hf_layout, refusals
from rgpipeline.model.weights.adapter_config import LoraConfig
from rgpipeline.model.weights.hf_layout import BODY, EMBEDDING, HEAD
from rgpipeline.model.weights.merged_reader import (
    MergedReader,
    Read,
    Source,
    Update,
    added_bias,
    column_norms,
    low_rank,
    replaced_rows,
    row_norms,
)
from rgpipeline.model.weights.recipes import Checkpoint
from rgpipeline.model.weights.safetensors_reader import SafetensorsReader
from rgpipeline.storage.folders import Folder
from rgpipeline.storage.local_copy import local_copy

_WRAPPERS = re.compile(r"\.(base_layer|modules_to_save)(?=\.)")
_PART = re.compile(
    r"(.+)\.(lora_A\.weight|lora_B\.weight|lora_B\.bias|lora_embedding_A|lora_embedding_B"
    r"|lora_magnitude_vector(?=$|\.weight$)|token_adapter\.trainable_tokens_delta)(?:\.weight)?"
)
_A, _B, _B_BIAS = "lora_A.weight", "lora_B.weight", "lora_B.bias"
_EMBEDDING_A, _EMBEDDING_B = "lora_embedding_A", "lora_embedding_B"
_MAGNITUDE, _ROWS = "lora_magnitude_vector", "token_adapter.trainable_tokens_delta"


def merged(base: Checkpoint, folder: Folder, cache: Path | None) -> Checkpoint:
    """The checkpoint with the adapter in `folder` merged into it, as it will be read.

    Args:
        base: A checkpoint whose tensors are this model's, under Hugging Face's names.
        folder: The adapter's.
        cache: Where to copy the adapter to first, or None.

    Raises:
        WeightsError: The adapter does not fit, or can't be merged. The message lists all reasons.
        StoreError: A remote store failed again and again.
    """
    config = _config(folder)
    copy = folder
    if cache is not None:
        copy = local_copy(folder, [folder.file(adapter_config.TENSORS)], cache)
    merge = _Merge(base, SafetensorsReader(copy, [adapter_config.TENSORS]), config)
    if merge.faults:
        where = f"{folder.url}/{adapter_config.TENSORS}"
        raise WeightsError(refusals.listed(f"{where}: no adapter of this model:", merge.faults))
    return merge.checkpoint()


def _config(folder: Folder) -> LoraConfig:
    names = folder.names()
    if adapter_config.CONFIG not in names:
        raise WeightsError(f"{folder.url}: no adapter: it has no {adapter_config.CONFIG}")
    where = f"{folder.url}/{adapter_config.CONFIG}"
    config = adapter_config.parse_config(folder.read_json(adapter_config.CONFIG), where)
    if adapter_config.TENSORS not in names:
        pickled = next((name for name in names if name.endswith((".bin", ".pt", ".pth"))), None)
        why = (
            f"; {pickled} is PyTorch's pickle, which runs code when read: save the adapter again "
            f"with save_pretrained(..., safe_serialization=True)"
        )
        raise WeightsError(
            f"{folder.url}: no {adapter_config.TENSORS}{why if pickled is not None else ''}"
        )
    return config


class _Merge:
    """What each tensor of a model becomes by an adapter; `faults` tells what does not fit."""

    def __init__(self, base: Checkpoint, reader: SafetensorsReader, config: LoraConfig) -> None:
        self._base, self._reader, self._lora = base, reader, config
        self.faults: list[str] = []
        needed = [name for recipe in base.recipes for name, _ in recipe.sources]
        self._body = BODY if any(name.startswith(BODY) for name in needed) else ""
        self._embedding = needed[0]
        modules: dict[str, dict[str, str]] = {}
        whole: dict[str, str] = {}
        for name in reader.tensors:
            plain = name.removeprefix("base_model.model.")
            found = _PART.fullmatch(plain)
            if found is None:
                whole[_WRAPPERS.sub("", plain)] = name
            else:
                modules.setdefault(_WRAPPERS.sub("", found[1]), {})[found[2]] = name
        self._config = self._untied(whole)
        self._sources = self._of_base()
        for stored, name in whole.items():
            self._replace(stored, name)
        # The embedding is before the head, in case they are one tensor.
        for module in sorted(modules, key=lambda module: module == "lm_head"):
            self._update(module, modules[module])
        if not reader.tensors:
            self.faults.append("it has no tensors")

    def checkpoint(self) -> Checkpoint:
        """The base with the adapter in it."""
        base, embedding = self._base, self._embedding
        recipes = base.recipes
        if self._config is not base.config:
            embedding = f"{self._body}{EMBEDDING}"
            recipes = tuple(hf_layout.recipes(self._config, self._body, embedding))
        return Checkpoint(self._config, MergedReader(self._sources), recipes, base.note)

    def _untied(self, whole: Mapping[str, str]) -> GriffinConfig:
        """The configuration; the head is untied if it or the embedding was trained on a copy."""
        ends = {name.removeprefix(BODY) for name in whole}
        trained = any(
            f"{module}.weight" in ends and self._lora.replaces(module)
            for module in ("embed_tokens", "lm_head")
        )
        if not trained or not self._base.config.tied or self._lora.ensure_weight_tying:
            return self._base.config
        return dataclasses.replace(self._base.config, tied=False)

    def _of_base(self) -> dict[str, Source]:
        reader = self._base.reader
        sources = {name: Source(reader, name) for name in reader.tensors}
        if self._config is not self._base.config:
            sources[HEAD] = sources[f"{self._body}{EMBEDDING}"] = sources[self._embedding]
        return sources

    def _stored_name(self, name: str) -> str:
        """The base's name of a tensor that the adapter calls `name`."""
        relative = name.removeprefix(BODY)
        if relative == EMBEDDING or (name == HEAD and self._config.tied):
            untied = self._config is not self._base.config
            return f"{self._body}{EMBEDDING}" if untied else self._embedding
        return name if name == HEAD else f"{self._body}{relative}"

    def _shape(self, stored: str) -> tuple[int, ...]:
        reader, name, _ = self._sources[stored]
        return reader.tensors[name].shape

    def _exists(self, stored: str, part: str) -> bool:
        if stored not in self._sources:
            self.faults.append(f"unknown tensor {part}: the base has no {stored}")
        return stored in self._sources

    def _fits(self, part: str, *expected: int) -> bool:
        found = self._reader.tensors[part].shape
        if found != expected:
            self.faults.append(
                f"tensor {part}: expected shape {list(expected)}, found {list(found)}"
            )
        return found == expected

    def _replace(self, name: str, part: str) -> None:
        stored = self._stored_name(name)
        if self._exists(stored, part) and self._fits(part, *self._shape(stored)):
            self._sources[stored] = Source(self._reader, part)

    def _add(self, stored: str, update: Update) -> None:
        source = self._sources[stored]
        self._sources[stored] = source._replace(updates=(*source.updates, update))

    def _update(self, module: str, parts: Mapping[str, str]) -> None:
        """Adds what was trained beside a module's weight."""
        if module == "lm_head" and self._config.tied and self._lora.ensure_weight_tying:
            return  # its matrices are the embedding's
        stored = self._stored_name(f"{module}.weight")
        part = next(iter(parts.values()))
        if not self._exists(stored, part):
            return
        if len(self._shape(stored)) != 2:
            self.faults.append(f"tensor {part}: {stored} is no matrix, and not even PEFT merges it")
            return
        if _ROWS in parts:
            self._set_rows(module, stored, parts[_ROWS])
        if parts.keys() & {_EMBEDDING_A, _EMBEDDING_B}:
            self._add_low_rank(module, stored, parts, _EMBEDDING_A, _EMBEDDING_B)
        elif parts.keys() - {_ROWS}:
            self._add_low_rank(module, stored, parts, _A, _B)
        if _B_BIAS in parts:
            self._add_bias(module, parts[_B_BIAS])

    def _add_bias(self, module: str, part: str) -> None:
        stored = self._stored_name(f"{module}.bias")
        if self._exists(stored, part) and self._fits(part, *self._shape(stored)):
            self._add(stored, partial(added_bias, self._read(part), self._lora.scale(module)))

    def _set_rows(self, module: str, stored: str, part: str) -> None:
        ids, (count, width) = self._lora.token_ids(module), self._shape(stored)
        if not self._fits(part, len(ids), width):
            return
        if max(ids, default=0) >= count:
            self.faults.append(f"tensor {part}: {stored} has no row {max(ids)}, only {count}")
        self._add(stored, partial(replaced_rows, self._read(part), ids))

    def _add_low_rank(
        self, module: str, stored: str, parts: Mapping[str, str], first: str, second: str
    ) -> None:
        part, rank = next(iter(parts.values())), self._lora.rank(module)
        wanted = [first, second] + ([_MAGNITUDE] if self._lora.use_dora else [])
        lacking = [name for name in wanted if name not in parts]
        if lacking:
            self.faults.append(f"tensor {part}: {', '.join(lacking)} of {module} is not there")
            return
        if _MAGNITUDE in parts and not self._lora.use_dora:
            self.faults.append(f"tensor {parts[_MAGNITUDE]}: use_dora is false")
            return
        outputs, inputs = self._shape(stored)
        if first == _EMBEDDING_A:
            outputs, inputs = inputs, outputs
        fits = [self._fits(parts[first], rank, inputs), self._fits(parts[second], outputs, rank)]
        magnitude = None
        if _MAGNITUDE in parts:
            fits.append(self._fits(parts[_MAGNITUDE], outputs))
            magnitude = self._read(parts[_MAGNITUDE])
        if all(fits):
            matrices = self._read(parts[first]), self._read(parts[second])
            add = partial(low_rank, *matrices, self._lora.scale(module), first == _EMBEDDING_A)
            self._add(stored, add)
            if magnitude is not None:
                scale = column_norms if first == _EMBEDDING_A else row_norms
                self._add(stored, partial(scale, magnitude))

    def _read(self, part: str) -> Read:
        """Reads one of the adapter's tensors, in float32."""
        return lambda: self._reader.read(part).astype(np.float32)
