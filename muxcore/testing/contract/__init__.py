"""The contract suite: what asyncio promises, the written list of stricter rules, and the verbs.

asyncio is the oracle: every scenario holds on the adapters too. Each file is one chapter.
"""

from muxcore.testing.contract.calls import Calls
from muxcore.testing.contract.closing import Closing
from muxcore.testing.contract.connecting import Connecting
from muxcore.testing.contract.cutting import Cutting
from muxcore.testing.contract.ejecting import Ejecting
from muxcore.testing.contract.flow import Flow
from muxcore.testing.contract.joining import Joining
from muxcore.testing.contract.limiting import Limiting
from muxcore.testing.contract.lingering import Lingering
from muxcore.testing.contract.opening import Opening
from muxcore.testing.contract.pooling import Pooling
from muxcore.testing.contract.protocols import Protocols
from muxcore.testing.contract.reading import Reading
from muxcore.testing.contract.relaying import Relaying
from muxcore.testing.contract.strictness import Strictness
from muxcore.testing.contract.threads import Threads
from muxcore.testing.contract.verbs import Verbs
from muxcore.testing.contract.writing import Writing


class ContractSuite(
    Opening,
    Reading,
    Writing,
    Flow,
    Limiting,
    Closing,
    Lingering,
    Protocols,
    Threads,
    Strictness,
    Verbs,
    Connecting,
    Joining,
    Relaying,
    Pooling,
    Ejecting,
    Cutting,
    Calls,
):
    """Every chapter of the contract, for one engine; see ``EngineSuite``."""
