//! Which traces are recorded.
//!
//! Whoever calls us has decided already, and we follow, so that a trace is whole or not there. Of
//! those that begin here a share is taken by their names: every node takes the same ones.

use crate::context::TraceId;

/// Takes a share of the traces that begin here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sampler {
    /// Traces are taken whose number is below this.
    bound: u64,
}

// === impl Sampler ===

impl Sampler {
    /// Takes `ratio` of them; from 0 = none to 1 = all.
    pub(crate) fn of_ratio(ratio: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "it is within the bounds of a share of 2^63, and need not be exact"
        )]
        let bound = (ratio.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64;
        Self { bound }
    }

    /// Whether this one is taken: by its last 63 bits, as the SDKs of OpenTelemetry do.
    pub(crate) fn takes(self, trace: TraceId) -> bool {
        let [.., a, b, c, d, e, f, g, h] = trace.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < self.bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;

    #[test]
    fn a_ratio_takes_its_share() {
        let taken = |ratio| {
            let sampler = Sampler::of_ratio(ratio);
            (0..10_000).filter(|_| sampler.takes(Context::begin(true).trace)).count()
        };
        assert_eq!((taken(0.0), taken(1.0)), (0, 10_000));
        // Six standard deviations to each side.
        assert!((2_240..=2_760).contains(&taken(0.25)));
        assert_eq!((taken(-1.0), taken(7.0), taken(f64::NAN)), (0, 10_000, 0));
    }

    #[test]
    fn the_same_trace_is_taken_everywhere() {
        let trace = Context::begin(true).trace;
        let small = Sampler::of_ratio(0.3).takes(trace);
        assert_eq!(small, Sampler::of_ratio(0.3).takes(trace));
        assert!(!small || Sampler::of_ratio(0.6).takes(trace), "a greater share holds the smaller one");
    }
}
