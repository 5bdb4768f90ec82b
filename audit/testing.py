"""For tests of your own project: assertions about leakage, and contract checks for plug-ins that you write.

```python
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.testing import assert_private, check_attack, check_trainer
```
"""

from .assertions import assert_no_regression, assert_private
from .contracts.attack import check_attack, leaking_evidence
from .contracts.bound import check_bound
from .contracts.dataset import check_dataset
from .contracts.failure import ContractError
from .contracts.trainer import check_trainer

__all__ = [
    "ContractError",
    "assert_no_regression",
    "assert_private",
    "check_attack",
    "check_bound",
    "check_dataset",
    "check_trainer",
    "leaking_evidence",
]
