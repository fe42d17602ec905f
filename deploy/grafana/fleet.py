"""The board of a whole fleet: is everything that is played being recorded?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.panels import Choice, Panel, Query, Section, board

_GROUP = 'consumergroup="$group"'
_NEXT_RED_SECONDS = 302_400  # half of Kafka's default retention, as the alert has it


def fleet_board() -> Dashboard:
    """The dashboard."""
    return board(
        "padreel: fleet",
        "padreel-fleet",
        "Everything that one consumer group records. For one consumer see the board 'padreel: consumer'.",
        [Choice("group", "Consumer group", "label_values(padreel_read_position, consumergroup)")],
        [
            Section("Is it recording?", _NOW),
            Section("Which rigs?", _RIGS),
            Section("How far behind?", _BEHIND),
            Section("What becomes of it?", _OUTCOME),
            Section("Is it sound?", _QUALITY),
        ],
    )


_NOW = (
    Panel(
        title="Sessions recording",
        shows="Sessions that are open and had a frame within the session timeout, about one for each rig at play.",
        when_red="Nobody plays, or nothing arrives: look whether the rigs' publishers run, then at the lag below.",
        unit="short",
        red=1,
        red_below=True,
        is_number=True,
        queries=(
            Query(f"sum(padreel_open_sessions{{{_GROUP}}}) - sum(padreel_silent_sessions{{{_GROUP}}})", "recording"),
        ),
    ),
    Panel(
        title="Episodes in the last hour",
        shows="Episodes committed: each is in the dataset and loads.",
        when_red="Sessions are recorded and become nothing: follow PadreelNothingRecorded in the operator's guide.",
        unit="short",
        red=1,
        red_below=True,
        is_number=True,
        queries=(Query(f"sum(increase(padreel_episodes_total{{{_GROUP}}}[1h]))", "episodes"),),
    ),
    Panel(
        title="Furthest behind",
        shows="How far reading is behind what the rigs published, on the partition where it is furthest.",
        when_red="See the graph below for which partition; follow PadreelLagGrowing if it does not fall.",
        unit="s",
        red=120,
        is_number=True,
        queries=(Query(f"max(padreel_lag_seconds{{{_GROUP}}})", "behind"),),
    ),
    Panel(
        title="Room on the disk",
        shows="The share of the output root's filesystem that is free.",
        when_red="Make room before it is full: follow PadreelDiskNearlyFull. A full disk loses nothing, but all waits.",
        unit="percentunit",
        red=0.1,
        red_below=True,
        is_number=True,
        queries=(
            Query(f"min(padreel_storage_available_bytes{{{_GROUP}}} / padreel_storage_size_bytes{{{_GROUP}}})", "free"),
        ),
    ),
)

_RIGS = (
    Panel(
        title="Rigs",
        shows="One row for each rig that --rigs lists; 'unknown' are all others together. Frames are those of the last "
        "15 minutes, and come with the commits, an episode at a time.",
        when_red="No frame of it for a minute. With an open session it went away in the middle: follow "
        "PadreelRigSilent. Without one nobody plays there.",
        unit="s",
        red=60,
        rows_by="rig",
        queries=(
            Query(
                # Also what a consumer said that was there before.
                f"time() - max by (rig) (max_over_time(padreel_rig_last_frame_timestamp_seconds{{{_GROUP}}}[4h]))",
                "since its frame",
                "s",
            ),
            Query(f"sum by (rig) (padreel_rig_open_sessions{{{_GROUP}}})", "open sessions"),
            Query(f'sum by (rig) (rate(padreel_rig_frames_total{{{_GROUP},fate="row"}}[15m]))', "recorded frames/s"),
            Query(
                f'sum by (rig) (rate(padreel_rig_frames_total{{{_GROUP},fate!~"row|end"}}[15m]))', "dropped frames/s"
            ),
            Query(f"sum by (rig) (increase(padreel_rig_rejected_total{{{_GROUP}}}[1h]))", "rejected records, 1 h"),
            Query(
                f"sum by (rig) (increase(padreel_rig_sessions_rejected_total{{{_GROUP}}}[1h]))",
                "rejected sessions, 1 h",
            ),
            Query(
                f"sum by (rig) (rate(padreel_rig_pad_age_seconds_sum{{{_GROUP}}}[1h]))"
                f" / clamp_min(sum by (rig) (rate(padreel_rig_pad_age_seconds_count{{{_GROUP}}}[1h])), 0.0001)",
                "mean pad age, 1 h",
                "s",
            ),
        ),
    ),
)

_BEHIND = (
    Panel(
        title="Behind the rigs",
        shows="How far reading is behind what the rigs published, by partition.",
        when_red="One partition: its disk or its consumer, see 'padreel: consumer'. All of them: add consumers, up to "
        "one for each partition.",
        unit="s",
        red=120,
        queries=(Query(f"max by (topic, partition) (padreel_lag_seconds{{{_GROUP}}})", "{{topic}} {{partition}}"),),
    ),
    Panel(
        title="Oldest record that is still needed",
        shows="What a consumer would read again if it started now. It must stay well below the topics' retention.",
        when_red="Half of Kafka's default retention: follow PadreelNextOld before Kafka deletes it.",
        unit="s",
        red=_NEXT_RED_SECONDS,
        queries=(
            Query(f"max by (topic, partition) (padreel_next_age_seconds{{{_GROUP}}})", "{{topic}} {{partition}}"),
        ),
    ),
    Panel(
        title="Longest open session",
        shows="How long the longest of the sessions that are recording has been, by its rig's clock.",
        when_red="Somebody left a rig running overnight. It does no harm, episodes are cut all the same; stop it.",
        unit="s",
        red=28_800,
        queries=(
            Query(f"max by (partition) (padreel_longest_session_seconds{{{_GROUP}}})", "partition {{partition}}"),
        ),
    ),
    Panel(
        title="Silent sessions",
        shows="Open sessions without a frame for the session timeout: rigs that went away in the middle of a session.",
        when_red="Their episodes are cut and safe; the table of rigs says whose they are. Many at once: the rigs' "
        "network or their publishers.",
        unit="short",
        red=5,
        queries=(Query(f"sum by (partition) (padreel_silent_sessions{{{_GROUP}}})", "partition {{partition}}"),),
    ),
)

_OUTCOME = (
    Panel(
        title="Frames by what became of them",
        shows="Frame records accounted for, per second: 'row' is in the dataset, 'idle' was trimmed. They come with "
        "the commits, an episode at a time.",
        when_red="More than any fleet makes: a rig publishes its past again and again. The table of rigs says which; "
        "'deny' in the file of --rigs stops it.",
        unit="short",
        red=100_000,
        queries=(Query(f"sum by (fate) (rate(padreel_frames_total{{{_GROUP}}}[15m]))", "{{fate}}"),),
    ),
    Panel(
        title="Episodes per hour by why they ended",
        shows="'end' and 'split' are in good order; each other one cut a session where something was missing or wrong.",
        when_red="More than 200 rigs make: sessions are cut to pieces. Look at which reason it is: 'gap' loses frames "
        "on the way, 'clock' is a broken rig, 'silence' a rig that went away.",
        unit="short",
        red=2_000,
        queries=(Query(f"sum by (reason) (increase(padreel_episodes_total{{{_GROUP}}}[1h]))", "{{reason}}"),),
    ),
    Panel(
        title="Rejected by reason",
        shows="Records per minute that cannot be used, and sessions rejected as a whole in an hour.",
        when_red="The table of rigs says whose they are, `padreel dead-letters list` why; follow PadreelRejects.",
        unit="short",
        red=1,
        queries=(
            Query(f"sum by (reason) (rate(padreel_rejected_total{{{_GROUP}}}[10m])) * 60", "records: {{reason}}"),
            Query(
                f"sum by (reason) (increase(padreel_sessions_rejected_total{{{_GROUP}}}[1h]))", "sessions: {{reason}}"
            ),
        ),
    ),
    Panel(
        title="Video written",
        shows="Bytes of access units written to the output root per second, which is nearly all that is written.",
        when_red="More than most disks take: look at the time of commits on 'padreel: consumer'.",
        unit="Bps",
        red=200_000_000,
        queries=(Query(f"sum(rate(padreel_remuxed_bytes_total{{{_GROUP}}}[5m]))", "video"),),
    ),
)

_QUALITY = (
    Panel(
        title="Frames whose pad was not proven",
        shows="The share of the rows that were paired because a deadline passed, and are marked 'forced'.",
        when_red="A rig's pad is not published, or without heartbeats: follow PadreelPadsStale.",
        unit="percentunit",
        red=0.05,
        queries=(
            Query(
                # A frame is forced at once, and a row only when its episode is committed: no share is above 1.
                f"clamp_max(sum by (partition) (rate(padreel_forced_frames_total{{{_GROUP}}}[30m]))"
                f' / clamp_min(sum by (partition) (rate(padreel_frames_total{{{_GROUP},fate="row"}}[30m])), 0.001), 1)',
                "partition {{partition}}",
            ),
        ),
    ),
    Panel(
        title="Pad records by how they were taken",
        shows="Per second. 'late' came after a later one of its session, 'duplicate' was published twice.",
        when_red="More than any pads make: find the rig that floods the topic by the log.",
        unit="short",
        red=100_000,
        queries=(Query(f"sum by (verdict) (rate(padreel_pad_records_total{{{_GROUP}}}[5m]))", "{{verdict}}"),),
    ),
    Panel(
        title="Age of the pad at a frame",
        shows="Of the EVENT that a frame is paired with. A pad that nobody touches grows old, and that is right.",
        when_red="In half of all frames the pad had done nothing for a minute: ask whether anybody plays.",
        unit="s",
        red=60,
        queries=(
            Query(
                f"histogram_quantile(0.5, sum by (le) (rate(padreel_pad_age_seconds_bucket{{{_GROUP}}}[1h])))", "half"
            ),
        ),
    ),
    Panel(
        title="Episodes quarantined per hour",
        shows="Committed and kept, but with a quality below MIN_QUALITY_SCORE, so that merge leaves them out; by the "
        "component that costs them most.",
        when_red="`padreel quarantine list` says whose they are: 'forced' and 'pad_age' are a pad that is not "
        "published, 'gaps' frames lost on the way, 'jitter' an encoder that cannot keep up.",
        unit="short",
        red=1,
        queries=(
            Query(
                f"sum by (component) (increase(padreel_episodes_quarantined_total{{{_GROUP}}}[1h]))", "{{component}}"
            ),
        ),
    ),
    Panel(
        title="Dead letters",
        shows="Written in an hour, by kind and reason; each is one record or one session.",
        when_red="`padreel dead-letters list`; once the cause is mended `replay` publishes the sessions again.",
        unit="short",
        red=1,
        queries=(
            Query(
                f"sum by (kind, reason) (increase(padreel_dead_letters_total{{{_GROUP}}}[1h]))",
                "{{kind}}: {{reason}}",
            ),
        ),
    ),
)
