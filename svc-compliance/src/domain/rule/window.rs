//! Stretches of time over which rules add up.

use super::Fields;
use alloy::primitives::U256;
use serde::{Deserialize, Serialize};

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// Begins again every `length_s` seconds from `start_at` (unix seconds) on. That it has begun is asked of the chain's clock.
    Fixed {
        /// Not zero.
        length_s: u32,
        /// When the first one began.
        start_at: u32,
    },
    /// Looks back from now.
    Rolling {
        /// Not zero.
        length_s: u32,
    },
}

/// At most this much within a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeLimit {
    /// The window.
    pub window: Window,
    /// Base units, not zero.
    pub max: U256,
}

impl Window {
    /// A window that begins again.
    pub fn fixed(fields: &mut Fields<'_>, length_s: u32, start_at: u32) -> Self {
        Self::Fixed { length_s: fields.number("fixed.length_s", length_s, 1, u32::MAX), start_at }
    }

    /// A window that looks back.
    pub fn rolling(fields: &mut Fields<'_>, length_s: u32) -> Self {
        Self::Rolling { length_s: fields.number("rolling.length_s", length_s, 1, u32::MAX) }
    }
}
