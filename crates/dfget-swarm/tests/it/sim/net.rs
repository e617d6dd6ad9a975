//! A network of ends that share their rates: each transfer gets the smaller of the fair shares of its two
//! ends, and what it leaves of the other goes to others there (nearly max-min fair; spread over a
//! bounded neighbourhood at each change).

/// Rates are spread to at most so many ends at each change.
const SPREAD: usize = 48;

/// A transfer, as number.
pub(crate) type FlowId = usize;

#[derive(Debug)]
struct End {
    rate: f64,
    level: f64,
    flows: Vec<FlowId>,
}

#[derive(Debug)]
struct Flow {
    from: usize,
    to: usize,
    left: f64,
    rate: f64,
    since: f64,
    version: u32,
    live: bool,
}

/// All ends and transfers.
#[derive(Debug, Default)]
pub(crate) struct Net {
    ends: Vec<End>,
    flows: Vec<Flow>,
    free: Vec<FlowId>,
    /// Transfers with a new end of time: when, which, and the version it is valid for.
    pub(crate) news: Vec<(f64, FlowId, u32)>,
}

// === impl Net ===

impl Net {
    pub(crate) fn end(&mut self, rate: f64) -> usize {
        self.ends.push(End { rate, level: rate, flows: Vec::new() });
        self.ends.len() - 1
    }

    /// Begins a transfer of `bytes`.
    pub(crate) fn start(&mut self, from: usize, to: usize, bytes: f64, now: f64) -> FlowId {
        let id = self.free.pop().unwrap_or_else(|| {
            let flow = Flow { from, to, left: 0.0, rate: 0.0, since: now, version: 0, live: false };
            self.flows.push(flow);
            self.flows.len() - 1
        });
        let version = self.flows[id].version + 1;
        self.flows[id] = Flow { from, to, left: bytes, rate: 0.0, since: now, version, live: true };
        self.ends[from].flows.push(id);
        self.ends[to].flows.push(id);
        self.spread(&[from, to], now);
        self.settle(id, now, true);
        id
    }

    /// Ends a transfer; the bytes that had not come.
    pub(crate) fn stop(&mut self, id: FlowId, now: f64) -> f64 {
        let flow = &mut self.flows[id];
        let left = flow.left - flow.rate * (now - flow.since);
        flow.live = false;
        flow.version += 1;
        let ends = [flow.from, flow.to];
        for end in ends {
            self.ends[end].flows.retain(|&other| other != id);
        }
        self.free.push(id);
        self.spread(&ends, now);
        left.max(0.0)
    }

    pub(crate) fn is_current(&self, id: FlowId, version: u32) -> bool {
        self.flows[id].live && self.flows[id].version == version
    }

    fn spread(&mut self, from: &[usize], now: f64) {
        let mut queue: Vec<usize> = from.to_vec();
        let mut at = 0;
        while at < queue.len() && at < SPREAD {
            let end = queue[at];
            at += 1;
            let (old, new) = (self.ends[end].level, self.fair(end));
            if (new - old).abs() <= old * 0.02 && at > from.len() {
                continue;
            }
            self.ends[end].level = new;
            for index in 0..self.ends[end].flows.len() {
                let id = self.ends[end].flows[index];
                let flow = &self.flows[id];
                let other = if flow.from == end { flow.to } else { flow.from };
                let level = self.ends[other].level;
                if (old < level || new < level) && !queue[at..].contains(&other) && queue.len() < 2 * SPREAD {
                    queue.push(other);
                }
            }
        }
        queue.truncate(at);
        queue.sort_unstable();
        queue.dedup();
        for end in queue {
            for index in 0..self.ends[end].flows.len() {
                self.settle(self.ends[end].flows[index], now, false);
            }
        }
    }

    /// The share of an end that its transfers get which are not held back by their other ends.
    fn fair(&self, end: usize) -> f64 {
        let End { rate, flows, .. } = &self.ends[end];
        let mut limits: Vec<f64> = flows
            .iter()
            .map(|&id| {
                let flow = &self.flows[id];
                self.ends[if flow.from == end { flow.to } else { flow.from }].level
            })
            .collect();
        limits.sort_unstable_by(f64::total_cmp);
        let (mut rest, mut open) = (*rate, limits.len());
        for limit in limits {
            if limit * open as f64 > rest {
                return rest / open as f64;
            }
            rest -= limit;
            open -= 1;
        }
        *rate
    }

    fn settle(&mut self, id: FlowId, now: f64, force: bool) {
        let flow = &mut self.flows[id];
        let rate = self.ends[flow.from].level.min(self.ends[flow.to].level);
        if !force && (rate - flow.rate).abs() <= flow.rate * 0.01 {
            return;
        }
        flow.left = (flow.left - flow.rate * (now - flow.since)).max(0.0);
        flow.since = now;
        flow.rate = rate;
        flow.version += 1;
        self.news.push((now + flow.left / rate.max(1.0), id, flow.version));
    }
}
