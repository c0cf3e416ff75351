//! Kernels that look at every byte.
//!
//! Guarantees: each kernel gives the same result on every processor; what it runs on is decided once per process, from what
//! the processor has. No kernel reads outside the slice it was given. Knows bytes and JSON and where an event lies, nothing of what events mean.

pub mod escape;
pub mod json;

pub use escape::escape_json_into;

/// What a kernel runs on, from the plainest up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Plain code, on any processor.
    Portable,
    /// 16 bytes at a time; every x86-64 has it.
    Sse2,
    /// 32 bytes at a time, with byte shuffles.
    Avx2,
    /// 32 or 64 bytes at a time, with byte compression.
    Avx512,
}

impl Tier {
    /// All tiers, plainest first.
    pub const ALL: [Tier; 4] = [Tier::Portable, Tier::Sse2, Tier::Avx2, Tier::Avx512];

    /// Whether this processor has it.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    pub fn is_available(self) -> bool {
        use std::arch::is_x86_feature_detected as has;
        match self {
            Tier::Portable | Tier::Sse2 => true,
            Tier::Avx2 => {
                has!("avx2") && has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("popcnt") && has!("pclmulqdq")
            }
            Tier::Avx512 => {
                has!("avx512f")
                    && has!("avx512bw")
                    && has!("avx512vl")
                    && has!("avx512vbmi2")
                    && Tier::Avx2.is_available()
            }
        }
    }

    /// Whether this processor has it.
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    pub fn is_available(self) -> bool {
        self == Tier::Portable
    }

    /// The best that this processor has.
    pub fn best() -> Tier {
        static BEST: std::sync::OnceLock<Tier> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| Tier::ALL.into_iter().rfind(|tier| tier.is_available()).unwrap_or(Tier::Portable))
    }
}
