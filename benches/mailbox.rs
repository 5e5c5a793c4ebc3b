//! The mailbox into a shard: push and pop on one thread, a wake-up, and a stream from one thread to another.
//!
//! Beside it: the `ArrayQueue` it is made of, alone, and `tokio::sync::mpsc`, which has a wake-up of its own.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput};
use crossbeam_queue::ArrayQueue;
use fanfare::mailbox::{Mailbox, Wakeup};
use tokio::sync::mpsc;

const CAPACITY: usize = 1_024;
const BURST: usize = 32;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1))
        .sample_size(50)
        .configure_from_args();
    push_pop(&mut criterion, "mailbox/push_pop", 1);
    push_pop(&mut criterion, "mailbox/push_pop_burst_of_32", BURST);
    push_wake_pop(&mut criterion);
    two_threads(&mut criterion);
    criterion.final_summary();
}

/// The consumer is awake all the time: a push finds the wake-up given.
fn push_pop(criterion: &mut Criterion, name: &str, items: usize) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(items as u64));
    let mailbox = Mailbox::new(CAPACITY, Wakeup::new());
    group.bench_function("mailbox", |bencher| {
        bencher.iter(|| {
            for item in 0..items {
                mailbox.push(black_box(item)).expect("it has room");
            }
            while let Some(item) = mailbox.pop() {
                black_box(item);
            }
        });
    });
    let queue = ArrayQueue::new(CAPACITY);
    group.bench_function("array_queue", |bencher| {
        bencher.iter(|| {
            for item in 0..items {
                queue.push(black_box(item)).expect("it has room");
            }
            while let Some(item) = queue.pop() {
                black_box(item);
            }
        });
    });
    let (sender, mut receiver) = mpsc::channel(CAPACITY);
    group.bench_function("tokio_mpsc", |bencher| {
        bencher.iter(|| {
            for item in 0..items {
                sender.try_send(black_box(item)).expect("it has room");
            }
            while let Ok(item) = receiver.try_recv() {
                black_box(item);
            }
        });
    });
    group.finish();
}

/// The consumer was about to sleep before each push: the push wakes it.
fn push_wake_pop(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mailbox/push_wake_pop");
    group.throughput(Throughput::Elements(1));
    let waker = Waker::from(Arc::new(Count(AtomicUsize::new(0))));
    let wakeup = Wakeup::new();
    let mailbox = Mailbox::new(CAPACITY, wakeup.clone());
    group.bench_function("mailbox", |bencher| {
        bencher.iter(|| {
            wakeup.about_to_sleep(&waker);
            mailbox.push(black_box(1_usize)).expect("it has room");
            black_box(mailbox.pop());
        });
    });
    let (sender, mut receiver) = mpsc::channel(CAPACITY);
    group.bench_function("tokio_mpsc", |bencher| {
        bencher.iter(|| {
            let mut context = Context::from_waker(&waker);
            assert!(receiver.poll_recv(&mut context).is_pending());
            sender.try_send(black_box(1_usize)).expect("it has room");
            let _received = black_box(receiver.poll_recv(&mut context));
        });
    });
    group.finish();
}

/// One thread pushes as fast as there is room; another takes everything, and sleeps when it finds nothing.
fn two_threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mailbox/two_threads");
    group.throughput(Throughput::Elements(1));
    group.bench_function("mailbox", |bencher| {
        let wakeup = Wakeup::new();
        let mailbox = Mailbox::new(CAPACITY, wakeup.clone());
        let take = |context: &mut Context<'_>| {
            if let Some(item) = mailbox.pop() {
                return Poll::Ready(item);
            }
            wakeup.about_to_sleep(context.waker());
            mailbox.pop().map_or(Poll::Pending, Poll::Ready)
        };
        bencher.iter_custom(|items| stream(items, |item| mailbox.push(item).is_ok(), take));
    });
    group.bench_function("array_queue_without_sleep", |bencher| {
        let queue = ArrayQueue::new(CAPACITY);
        let take = |context: &mut Context<'_>| {
            let item = queue.pop();
            if item.is_none() {
                context.waker().wake_by_ref();
            }
            item.map_or(Poll::Pending, Poll::Ready)
        };
        bencher.iter_custom(|items| stream(items, |item| queue.push(item).is_ok(), take));
    });
    group.bench_function("tokio_mpsc", |bencher| {
        let (sender, mut receiver) = mpsc::channel(CAPACITY);
        let mut take = |context: &mut Context<'_>| {
            receiver.poll_recv(context).map(|item| item.expect("the sender is there"))
        };
        bencher.iter_custom(|items| stream(items, |item| sender.try_send(item).is_ok(), &mut take));
    });
    group.finish();
}

/// How long `items` take from one thread to another.
fn stream(
    items: u64,
    push: impl Fn(u64) -> bool + Sync,
    mut take: impl FnMut(&mut Context<'_>) -> Poll<u64>,
) -> Duration {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    thread::scope(|scope| {
        let start = Instant::now();
        scope.spawn(|| {
            for item in 0..items {
                while !push(item) {
                    thread::yield_now();
                }
            }
        });
        for expected in 0..items {
            let item = loop {
                match take(&mut context) {
                    Poll::Ready(item) => break item,
                    Poll::Pending => thread::park(),
                }
            };
            assert_eq!(item, expected);
        }
        start.elapsed()
    })
}

/// Counts wake-ups.
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Wakes a thread.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}
