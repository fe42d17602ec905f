"""The board of one consumer: what it holds, what it waits for, and what a rebalance cost."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.panels import Choice, Panel, Query, Section, board

_ONE = 'instance="$instance"'


def consumer_board() -> Dashboard:
    """The dashboard."""
    return board(
        "padreel: consumer",
        "padreel-consumer",
        "One consumer, by the address that Prometheus asks.",
        [
            Choice("instance", "Consumer", "label_values(padreel_event_loop_stall_seconds_count, instance)"),
        ],
        [
            Section("What it has", _HAS),
            Section("What it holds", _HOLDS),
            Section("What it writes", _WRITES),
            Section("The group", _GROUP),
        ],
    )


_HAS = (
    Panel(
        title="Partitions",
        shows="Partitions that it is assigned and has open.",
        when_red="There are more consumers than partitions, or the group is rebalancing: see `/readyz`.",
        unit="short",
        red=1,
        red_below=True,
        is_number=True,
        queries=(Query(f"count(padreel_open_sessions{{{_ONE}}}) or vector(0)", "partitions"),),
    ),
    Panel(
        title="Open sessions",
        shows="Sessions that have begun and not ended.",
        when_red="More than one core takes, by the figures of the operator's guide: add consumers.",
        unit="short",
        red=1_000,
        is_number=True,
        queries=(Query(f"sum(padreel_open_sessions{{{_ONE}}}) or vector(0)", "sessions"),),
    ),
    Panel(
        title="Storage failures",
        shows="Attempts in ten minutes to write to the output root that failed.",
        when_red="`/readyz` and the log name the error: follow PadreelCommitsFailing.",
        unit="short",
        red=1,
        is_number=True,
        queries=(Query(f"sum(increase(padreel_storage_retries_total{{{_ONE}}}[10m])) or vector(0)", "failures"),),
    ),
    Panel(
        title="Dead-letter failures",
        shows="Attempts in ten minutes to write dead letters that failed.",
        when_red="Its partitions wait until the topic takes them: follow PadreelDeadLettersFailing.",
        unit="short",
        red=1,
        is_number=True,
        queries=(Query(f"sum(increase(padreel_dead_letter_retries_total{{{_ONE}}}[10m])) or vector(0)", "failures"),),
    ),
)

_HOLDS = (
    Panel(
        title="Bytes held, of the limit",
        shows="By partition: pad records that are not yet paired, and video that waits for the disk.",
        when_red="Reading waits. 'video': the disk is too slow. 'pads': frames are missing, or read much later.",
        unit="percentunit",
        red=0.9,
        queries=(
            Query(
                f"max by (partition, what) (padreel_buffered_bytes{{{_ONE}}} / padreel_buffer_limit_bytes{{{_ONE}}})",
                "{{what}} {{partition}}",
            ),
        ),
    ),
    Panel(
        title="Records held, of the limit",
        shows="By partition: frames that wait for their pad, and pad records that wait for frames.",
        when_red="Reading waits. 'frames': pads are missing, see the delay beside it. Rigs should send heartbeats.",
        unit="percentunit",
        red=0.9,
        queries=(
            Query(
                f"max by (partition, what) "
                f"(padreel_buffered_records{{{_ONE}}} / padreel_buffer_limit_records{{{_ONE}}})",
                "{{what}} {{partition}}",
            ),
        ),
    ),
    Panel(
        title="Watermark delay",
        shows="How long the frame that waits longest for its pad has been waiting. With heartbeats about a second.",
        when_red="A rig's pad says nothing; its frames are taken at the deadline and marked. Follow PadreelPadsStale.",
        unit="s",
        red=60,
        queries=(Query(f"max by (partition) (padreel_watermark_delay_seconds{{{_ONE}}})", "partition {{partition}}"),),
    ),
    Panel(
        title="Event-loop stalls",
        shows="How much later than asked the event loop woke a task: one in a hundred is later than this.",
        when_red="The CPU is not enough, or is throttled: give it more, or add consumers. At 10 s the group drops it.",
        unit="s",
        red=1,
        queries=(
            Query(
                "histogram_quantile(0.99, sum by (le) "
                f"(rate(padreel_event_loop_stall_seconds_bucket{{{_ONE}}}[$__rate_interval])))",
                "99 %",
            ),
        ),
    ),
)

_WRITES = (
    Panel(
        title="Commits",
        shows="From staging an episode's files to having it published: half of them, and all but one in a hundred.",
        when_red="Longer than the grace period lets a stopping pod finish: look at which step below, and at the disk.",
        unit="s",
        red=60,
        queries=(
            Query(f"histogram_quantile(0.5, sum by (le) (rate(padreel_commit_seconds_bucket{{{_ONE}}}[1h])))", "half"),
            Query(f"histogram_quantile(0.99, sum by (le) (rate(padreel_commit_seconds_bucket{{{_ONE}}}[1h])))", "99 %"),
        ),
    ),
    Panel(
        title="Steps of a commit",
        shows="All but one in a hundred: 'stage' writes and reads back, 'commit' and 'publish' are small and durable.",
        when_red="'stage' grows with the video: CPU or throughput. The others are the disk's fsync.",
        unit="s",
        red=30,
        queries=(
            Query(
                f"histogram_quantile(0.99, sum by (le, step) (rate(padreel_commit_step_seconds_bucket{{{_ONE}}}[1h])))",
                "{{step}}",
            ),
        ),
    ),
    Panel(
        title="Read",
        shows="Bytes of record values per second, by topic.",
        when_red="As much as a network of 1 Gbit/s brings: add consumers on other machines.",
        unit="Bps",
        red=100_000_000,
        queries=(Query(f"sum by (topic) (rate(padreel_bytes_total{{{_ONE}}}[5m]))", "{{topic}}"),),
    ),
    Panel(
        title="Video written",
        shows="Bytes of access units written to the output root per second.",
        when_red="More than most disks take: look at the bytes that wait for it above.",
        unit="Bps",
        red=200_000_000,
        queries=(Query(f"sum(rate(padreel_remuxed_bytes_total{{{_ONE}}}[5m])) or vector(0)", "video"),),
    ),
)

_GROUP = (
    Panel(
        title="Rebalances and fences",
        shows="In an hour: how often the group assigned partitions, and how often another writer took a shard.",
        when_red="Consumers come and go, or are too slow for the group: see the stalls above. Follow PadreelFences.",
        unit="short",
        red=6,
        queries=(
            Query(f"sum(increase(padreel_rebalances_total{{{_ONE}}}[1h]))", "rebalances"),
            Query(f"sum(increase(padreel_fences_total{{{_ONE}}}[1h])) or vector(0)", "fences"),
        ),
    ),
    Panel(
        title="What they cost",
        shows="Bytes per second that were read again: an open session is read again by the partition's new owner.",
        when_red="Much of the reading is for nothing. Scale less often: KEDA's stabilisation window is there for that.",
        unit="Bps",
        red=50_000_000,
        queries=(Query(f"sum by (topic) (rate(padreel_reread_bytes_total{{{_ONE}}}[5m]))", "{{topic}}"),),
    ),
)
