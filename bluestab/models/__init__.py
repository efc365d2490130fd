"""Networks: what a yaml says of one, how it is loaded, which parameter lies at which depth."""

from bluestab.models.description import Model as Model
