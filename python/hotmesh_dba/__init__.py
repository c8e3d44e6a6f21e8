"""Prunes the databases of HotMesh, a durable-workflow engine for PostgreSQL.

    from hotmesh_dba import DBA

    dba = DBA("postgresql://app@localhost/app")
    dba.prune("myapp", expire="30 days", attributes=True)

`DBA` and `AsyncDBA` mirror the routines of the PostgreSQL extension hotmesh_dba, in which the work
is done. Every error is a `HotMeshDBAError`.
"""

from hotmesh_dba import extension
from hotmesh_dba.aio import AsyncDBA
from hotmesh_dba.client import DBA
from hotmesh_dba.errors import (
    AmbiguousOverload,
    Cancelled,
    ConnectionFailed,
    CronMissing,
    DependentObjects,
    ExtensionFilesMissing,
    HotMeshDBAError,
    InstallFailed,
    InvalidAppId,
    InvalidOption,
    Locked,
    NotDeployed,
    NotHotMesh,
    NotInstalled,
    OpenTransaction,
    PermissionDenied,
    PolicyDisabled,
    ReadOnly,
    RunEnded,
    TooMuch,
    TriggersNeeded,
    UnknownApp,
    UnknownPolicy,
    UntrustedInstaller,
    VersionMismatch,
    WrongIsolation,
)
from hotmesh_dba.models import (
    Action,
    ActiveRun,
    App,
    Backlog,
    Check,
    DueResult,
    Installation,
    Policy,
    Preview,
    Progress,
    PruneResult,
    Run,
    RunResult,
    Schedule,
    Scheduled,
    StepPace,
)

__version__ = extension.version()

__all__ = [
    "DBA",
    "Action",
    "ActiveRun",
    "AmbiguousOverload",
    "App",
    "AsyncDBA",
    "Backlog",
    "Cancelled",
    "Check",
    "ConnectionFailed",
    "CronMissing",
    "DependentObjects",
    "DueResult",
    "ExtensionFilesMissing",
    "HotMeshDBAError",
    "InstallFailed",
    "Installation",
    "InvalidAppId",
    "InvalidOption",
    "Locked",
    "NotDeployed",
    "NotHotMesh",
    "NotInstalled",
    "OpenTransaction",
    "PermissionDenied",
    "Policy",
    "PolicyDisabled",
    "Preview",
    "Progress",
    "PruneResult",
    "ReadOnly",
    "Run",
    "RunEnded",
    "RunResult",
    "Schedule",
    "Scheduled",
    "StepPace",
    "TooMuch",
    "TriggersNeeded",
    "UnknownApp",
    "UnknownPolicy",
    "UntrustedInstaller",
    "VersionMismatch",
    "WrongIsolation",
    "__version__",
]
