//! Runs in which classes of topics let frames go: what is dropped, conflated, told in gaps and counted in the books, against a
//! naive model that follows every frame of every queue.
//!
//! A run is a shape and a list of operations, and both are made of bytes: those of a seed, or those of a fuzzer. After
//! every call of the engine each queue is compared with what the model knows that it held, what arrived and what was
//! read: so each frame is queued, was read, or is lost, and for what is lost it is judged whether it might be, and
//! whether the books say the same.

mod books;
mod client;
mod closes;
mod judge;
mod op;
mod publishing;
mod reading;
mod turns;
mod wire;
mod world;

use crate::{seen::Policed, steps::Steps};

pub(crate) use op::{OP_BYTES, SHAPE_BYTES, Shape};

/// Runs one seed to its end.
pub(crate) fn run(seed: u64, steps: &mut Steps<'_>) -> Policed {
    let mut random = crate::random::Random::new(seed ^ 0x0C1A_55E5);
    let bytes: [u8; SHAPE_BYTES] = std::array::from_fn(|_| random.next() as u8);
    let mut world = world::World::new(&Shape::of(bytes));
    for n in 0..random.within(150, 900) {
        let Some(mut random) = steps.begin(n) else { continue };
        let bytes: [u8; OP_BYTES] = std::array::from_fn(|_| random.next() as u8);
        world.step(op::Op::of(bytes));
    }
    steps.end();
    world.finish()
}

/// Runs what the bytes of a fuzzer say.
pub(crate) fn run_bytes(bytes: &[u8]) {
    let Some((shape, operations)) = bytes.split_first_chunk() else { return };
    let mut world = world::World::new(&Shape::of(*shape));
    let (operations, _) = operations.as_chunks();
    operations.iter().for_each(|&bytes| world.step(op::Op::of(bytes)));
    world.finish();
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The stable twin of the fuzz target `shard`.
        #[test]
        fn any_operations_keep_the_books(bytes in vec(any::<u8>(), 0..2_000)) {
            super::run_bytes(&bytes);
        }
    }
}
