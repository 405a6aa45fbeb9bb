"""An official checkpoint under Hugging Face's names, which an adapter's tensors refer to."""

from collections.abc import Mapping

from rgpipeline.model.param_tree import HostArray
from rgpipeline.model.weights import hf_layout
from rgpipeline.model.weights.recipes import Checkpoint, Recipe, Stored, TensorReader


def renamed(official: Checkpoint) -> Checkpoint:
    """The checkpoint with the tensors that Hugging Face's layout of the same model has."""
    recipes = tuple(hf_layout.recipes(official.config))
    reader = _Renamed(official, {recipe.path: recipe for recipe in recipes})
    return official._replace(reader=reader, recipes=recipes)


class _Renamed:
    """Makes a parameter of the official tensors, and Hugging Face's tensors of the parameter."""

    def __init__(self, official: Checkpoint, recipes: Mapping[tuple[str, ...], Recipe]) -> None:
        self._reader: TensorReader = official.reader
        self._recipes: dict[str, tuple[Recipe, Recipe]] = {}
        self.tensors: dict[str, Stored] = {}
        for theirs in official.recipes:
            ours, stored = recipes[theirs.path], self._reader.tensors[theirs.sources[0][0]]
            for name, shape in ours.sources:
                self._recipes[name] = theirs, ours
                self.tensors[name] = stored._replace(shape=shape)

    def read(self, name: str) -> HostArray:
        theirs, ours = self._recipes[name]
        value = theirs.build([self._reader.read(source) for source, _ in theirs.sources])
        return dict(hf_layout.split(ours, value))[name]
