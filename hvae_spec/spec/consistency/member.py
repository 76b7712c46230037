"""All contradictions within one resolved spec."""

from collections.abc import Iterator

from hvae_spec.errors import MachineError, UserError
from hvae_spec.spec.consistency.classes import class_problems, labeled_problems
from hvae_spec.spec.consistency.data import (
    CountImages,
    data_problems,
    empty_sets,
    own_images_problems,
    validation_problems,
)
from hvae_spec.spec.consistency.evaluation import measured_images_problems, probe_problems
from hvae_spec.spec.consistency.inconsistency import Inconsistency
from hvae_spec.spec.consistency.model import (
    auxiliary_problems,
    flow_problems,
    observation_problems,
    prior_problems,
    pseudo_input_problems,
    skip_problems,
    step_problems,
    top_down_problems,
)
from hvae_spec.spec.consistency.objective import unit_problems
from hvae_spec.spec.consistency.training import training_problems
from hvae_spec.spec.experiment import MemberSpec


def member_problems(member: MemberSpec, count_images: CountImages) -> Iterator[Inconsistency]:
    """Contradictions within one resolved spec, and between it and the images that are there."""
    data = member.data
    found = list(own_images_problems(data))
    available = None
    if not data.is_own or data.own is not None:
        try:
            available = count_images(data)
        except MachineError:
            raise  # the spec is as it should be
        except UserError as error:
            # What would fix it depends on what is wrong with the file, and is part of the message.
            found.append(Inconsistency(("data", "own", "file"), str(error), "", ("data.own",)))
    if available is not None and not found:
        found += empty_sets(data, available)
        found += [] if found else validation_problems(data, available)
        if not found:
            found += data_problems(data, available)
            used = data.limit(available)
            distinct = data.distinct(used.train, available)
            found += measured_images_problems(member, used.test)
            found += probe_problems(member, distinct)
            few = list(labeled_problems(member, used.train))
            found += few
            found += [] if few else training_problems(member, data.unlabeled(used.train))
            found += pseudo_input_problems(member.model, distinct)
    yield from found
    yield from observation_problems(member)
    yield from flow_problems(member)
    yield from auxiliary_problems(member)
    yield from top_down_problems(member)
    yield from skip_problems(member.model)
    yield from step_problems(member.model)
    yield from prior_problems(member.model)
    yield from unit_problems(member)
    yield from class_problems(member)
