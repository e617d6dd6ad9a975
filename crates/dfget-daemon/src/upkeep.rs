//! What is done from time to time: evict, count, notice idleness.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use dfget_config::Config;
use dfget_proxy::Proxy;
use dfget_storage::{Store, SweepReport};
use dfget_task::Tasks;
use dfget_telemetry::Metrics;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

/// How often the daemon looks whether anybody still uses it.
const IDLE_CHECK: Duration = Duration::from_millis(500);

/// Keeps the store within its limits, for ever, as the newest configuration asks for.
pub(crate) async fn sweep_as_configured(
    store: Store,
    mut configuration: watch::Receiver<Arc<Config>>,
    metrics: Metrics,
) {
    loop {
        let config = Arc::clone(&configuration.borrow_and_update());
        let sweep = sweep(store.clone(), config.gc_interval, config.access.offline_grace, metrics.clone());
        tokio::select! {
            () = sweep => {}
            changed = configuration.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Keeps the store within its limits, for ever; `grace` is how long permissions are of use.
pub(crate) async fn sweep(store: Store, every: Duration, grace: Option<Duration>, metrics: Metrics) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let swept = {
            let store = store.clone();
            tokio::task::spawn_blocking(move || {
                let now = SystemTime::now();
                store.prune_grants(now, grace.unwrap_or_default());
                (store.sweep(now), store.usage())
            })
        };
        let Ok((report, usage)) = swept.await else { continue };
        metrics.set_store(usage.bytes, usage.entries as u64);
        tell(&report, &metrics);
    }
}

fn tell(report: &SweepReport, metrics: &Metrics) {
    for evicted in &report.evicted {
        metrics.evicted(evicted.bytes);
        info!(task = evicted.key.as_str(), "task reclaimed: {:?}, {} bytes", evicted.reason, evicted.bytes);
    }
    if report.over_quota_bytes > 0 {
        warn!(
            "the store is {} bytes above diskGCThreshold: downloads in progress, or one content larger than it",
            report.over_quota_bytes
        );
    }
}

/// Returns when nobody has used the proxy for as long as the newest configuration says.
pub(crate) async fn idle_as_configured(
    proxy: Proxy,
    tasks: Tasks,
    mut configuration: watch::Receiver<Arc<Config>>,
) {
    loop {
        let limit = configuration.borrow_and_update().alive_time;
        let idle = async {
            match limit {
                Some(limit) => idle(proxy.clone(), tasks.clone(), limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = idle => return,
            changed = configuration.changed() => if changed.is_err() {
                return std::future::pending().await;
            },
        }
    }
}

/// Returns when nobody has used the proxy for `limit`.
async fn idle(proxy: Proxy, tasks: Tasks, limit: Duration) {
    let mut used = Instant::now();
    while used.elapsed() < limit {
        tokio::time::sleep(IDLE_CHECK.min(limit)).await;
        if proxy.connections() > 0 || tasks.running() > 0 {
            used = Instant::now();
        }
    }
    info!("nobody used the daemon for {} s (aliveTime); leaving", limit.as_secs());
}
