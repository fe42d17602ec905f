"""Every exception padreel raises on purpose, drawn as a tree.

    PadreelError                     something a person must act on; the message says what
    ├── SettingsError                flags, environment or YAML that cannot be used (exit code 2)
    │   └── ProfileError             a game definition or an action mapping; names file, action, control
    ├── InputError                   a session folder that cannot be read; names file and field
    ├── BrokerError                  no usable broker, topics missing, partition counts unequal, offsets lost
    ├── DeadLetterError              the dead-letter topic does not take a letter; its partition waits
    ├── EpisodesTopicError           the episodes topic does not take an event; it is told later
    ├── TooManyRejectedError         nearly everything is rejected; the consumer stops rather than drop
    └── DatasetError                 the output root
        ├── RootMismatchError        the root belongs to another group, cluster or schema
        ├── FilesystemError          the filesystem cannot hold a live shard
        ├── FormatVersionError       written by a newer padreel
        ├── ForeignFileError         a final name is taken by a file that no commit names
        ├── CorruptShardError        a committed file is gone or has another sha256
        ├── UndecodableError         an episode's video shows no picture; its rejection is committed instead
        │   └── MediaError           the file of a session by reference will never do; names it and says why
        └── FencedError              another writer has taken the shard; nothing more may be written

A bad *message* is never an exception: it is a `padreel.model.Rejected` value.
"""


class PadreelError(Exception):
    """Base of all errors that padreel raises on purpose."""


class SettingsError(PadreelError):
    """A flag, an environment variable or a file of settings cannot be used."""


class ProfileError(SettingsError):
    """A game definition or action mapping is unusable; names file, action and control."""


class InputError(PadreelError, ValueError):
    """A session folder is unusable; names the file and what was found and expected. A ValueError to callers."""


class BrokerError(PadreelError):
    """The connection to the brokers, their topics or offsets do not allow to go on."""


class DeadLetterError(PadreelError):
    """A dead letter was not acknowledged: what it is about must not be released."""


class EpisodesTopicError(PadreelError):
    """An event of an episode was not acknowledged; recording does not wait for it."""


class TooManyRejectedError(PadreelError):
    """Nearly every record is rejected: stopping loses nothing, going on would."""


class DatasetError(PadreelError):
    """The output root cannot be used."""


class RootMismatchError(DatasetError):
    """The output root belongs to another group, cluster, topic or schema."""


class FilesystemError(DatasetError):
    """The filesystem lacks what the commit protocol needs (hard links, atomic replace)."""


class FormatVersionError(DatasetError):
    """A commit or root file has a format version newer than this padreel."""


class ForeignFileError(DatasetError):
    """A final file name is taken by something that no commit names."""


class CorruptShardError(DatasetError):
    """A file that a commit names is gone or has another sha256."""


class UndecodableError(DatasetError):
    """No keyframe of an episode can be decoded, or its pictures have another size than the rig says."""


class MediaError(UndecodableError):
    """The file that a session by reference names is none that can be used, or was replaced; waiting does not help."""


class FencedError(DatasetError):
    """Another writer has taken the shard; this one must not write another byte."""
