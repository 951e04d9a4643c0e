//! Waiting on a frontend's runtime for something another thread completes.
//!
//! Waking a task of another thread's runtime costs a system call. The apply thread completes requests
//! in batches, so it only notes the tasks to wake in the [`Port`] of their runtime and wakes one task
//! there when the batch is done; that one wakes the others from inside.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::task::AtomicWaker;

/// Tasks of one runtime that are to be woken together.
#[derive(Debug, Default)]
pub struct Port {
    ready: Mutex<Vec<Waker>>,
    drain: AtomicWaker,
    /// The runtime is gone, and with it the task that drained the port.
    closed: AtomicBool,
}

thread_local! {
    static PORT: RefCell<Option<Arc<Port>>> = const { RefCell::new(None) };
}

impl Port {
    /// The port of the runtime that drives the calling thread.
    fn current() -> Arc<Self> {
        PORT.with_borrow_mut(|known| {
            if let Some(port) = known
                && !port.closed.load(Ordering::Relaxed)
            {
                return Arc::clone(port);
            }
            let port = Arc::new(Self::default());
            tokio::spawn(Drain {
                port: Arc::clone(&port),
            });
            *known = Some(Arc::clone(&port));
            port
        })
    }
}

/// The task that wakes the others of its runtime.
struct Drain {
    port: Arc<Port>,
}

impl Drop for Drain {
    fn drop(&mut self) {
        // The thread may get another runtime, whose tasks this port would never wake.
        self.port.closed.store(true, Ordering::Relaxed);
    }
}

impl Future for Drain {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.port.drain.register(cx.waker());
        let ready = std::mem::take(
            &mut *self
                .port
                .ready
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for waker in ready {
            waker.wake();
        }
        Poll::Pending
    }
}

#[derive(Debug)]
enum State<T> {
    Waiting(Option<Waker>),
    Done(T),
    Taken,
}

/// One awaited result.
#[derive(Debug)]
pub struct Slot<T> {
    state: Mutex<State<T>>,
    port: Arc<Port>,
}

/// The future of a [`Slot`].
#[derive(Debug)]
pub struct Wait<T>(Arc<Slot<T>>);

impl<T> Slot<T> {
    /// A slot and the future that ends when it is completed; to be called on the runtime that waits.
    pub fn new() -> (Arc<Self>, Wait<T>) {
        let slot = Arc::new(Self {
            state: Mutex::new(State::Waiting(None)),
            port: Port::current(),
        });
        (Arc::clone(&slot), Wait(slot))
    }

    /// Completes the slot; the first result counts. The task is woken when `wakes` is flushed.
    pub fn complete(&self, value: T, wakes: &mut Wakes) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Waiting(waker) = &mut *state {
            let waker = waker.take();
            *state = State::Done(value);
            drop(state);
            if let Some(waker) = waker {
                wakes.add(&self.port, waker);
            }
        }
    }
}

impl<T> Future for Wait<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Taken) {
            State::Done(value) => Poll::Ready(value),
            State::Waiting(_) => {
                *state = State::Waiting(Some(cx.waker().clone()));
                Poll::Pending
            }
            State::Taken => Poll::Pending,
        }
    }
}

/// Wake-ups collected over a batch.
#[derive(Debug, Default)]
pub struct Wakes {
    ports: Vec<(Arc<Port>, Vec<Waker>)>,
}

impl Wakes {
    fn add(&mut self, port: &Arc<Port>, waker: Waker) {
        // There are as many ports as cores, so a scan is the fastest map.
        match self
            .ports
            .iter_mut()
            .find(|(known, _)| Arc::ptr_eq(known, port))
        {
            Some((_, wakers)) => wakers.push(waker),
            None => self.ports.push((Arc::clone(port), vec![waker])),
        }
    }

    /// Hands everything collected to its runtimes, with one wake-up for each.
    pub fn flush(&mut self) {
        for (port, wakers) in &mut self.ports {
            if wakers.is_empty() {
                continue;
            }
            port.ready
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .append(wakers);
            port.drain.wake();
        }
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_completed_on_another_thread_wakes_all_its_waiters() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let pairs: Vec<_> = (0..100).map(|_| Slot::<usize>::new()).collect();
            let (slots, waits): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let tasks: Vec<_> = waits.into_iter().map(tokio::spawn).collect();
            tokio::task::yield_now().await;
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut wakes = Wakes::default();
                    for (i, slot) in slots.iter().enumerate() {
                        slot.complete(i, &mut wakes);
                    }
                });
            });
            for (i, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.await.unwrap(), i);
            }
        });
    }

    #[test]
    fn a_thread_that_gets_a_second_runtime_is_still_woken() {
        for _ in 0..2 {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (slot, wait) = Slot::new();
                let thread = std::thread::spawn(move || {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                    slot.complete(1, &mut Wakes::default());
                });
                let limit = std::time::Duration::from_secs(5);
                assert_eq!(tokio::time::timeout(limit, wait).await, Ok(1));
                thread.join().unwrap();
            });
        }
    }

    #[test]
    fn only_the_first_result_of_a_slot_counts() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (slot, wait) = Slot::new();
            let mut wakes = Wakes::default();
            slot.complete(1, &mut wakes);
            slot.complete(2, &mut wakes);
            assert_eq!(wait.await, 1);
        });
    }
}
