"""The changes that must not go unnoticed: a factor dropped, an index shifted, two keys swapped."""

from tests.mutants.bound import BOUND
from tests.mutants.convert import CONVERT
from tests.mutants.data import DATA
from tests.mutants.editing import EDITING
from tests.mutants.edm import EDM
from tests.mutants.evaluation import EVALUATION
from tests.mutants.guidance import GUIDANCE
from tests.mutants.loss import LOSS
from tests.mutants.metrics import METRICS
from tests.mutants.mutant import Mutant
from tests.mutants.planning import PLANNING
from tests.mutants.process import PROCESS
from tests.mutants.reverse_process import REVERSE_PROCESS
from tests.mutants.samplers import SAMPLERS
from tests.mutants.schedules import SCHEDULES
from tests.mutants.training import TRAINING
from tests.mutants.user_data import USER_DATA

MUTANTS: tuple[Mutant, ...] = (
    *SCHEDULES,
    *PROCESS,
    *REVERSE_PROCESS,
    *BOUND,
    *LOSS,
    *SAMPLERS,
    *EDM,
    *EDITING,
    *GUIDANCE,
    *TRAINING,
    *DATA,
    *USER_DATA,
    *METRICS,
    *EVALUATION,
    *CONVERT,
    *PLANNING,
)
