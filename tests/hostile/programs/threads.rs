//! Threads that are there before the jail is closed: behind its filter of system calls there is no way to make one.

use std::sync::{Arc, Barrier, Mutex, mpsc};

/// Steps at once.
const COUNT: usize = 16;

type Work = Box<dyn FnOnce() + Send>;

/// Does one piece of work in each thread at a time.
pub struct Threads(mpsc::Sender<Work>);

impl Threads {
    /// Starts them; all run when this returns.
    pub fn start() -> Self {
        let (orders, queue) = mpsc::channel::<Work>();
        let (queue, running) = (Arc::new(Mutex::new(queue)), Arc::new(Barrier::new(COUNT + 1)));
        for _ in 0..COUNT {
            let (queue, running) = (queue.clone(), running.clone());
            std::thread::spawn(move || {
                running.wait();
                let next = || queue.lock().unwrap().recv();
                while let Ok(work) = next() {
                    work();
                }
            });
        }
        running.wait();
        Self(orders)
    }

    /// Does `work` as soon as a thread is free.
    pub fn run(&self, work: impl FnOnce() + Send + 'static) {
        self.0.send(Box::new(work)).unwrap();
    }
}
