//! A thread for calls of the engine that may wait for writes of the loop: zeroing, discards, flushes.
//! The loop goes on meanwhile, so the writes they wait for get done.

use std::io::{PipeWriter, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;

use cow_engine::{Image, ZeroMode};

use super::Failure;
use super::guest::{Kind, Request};

pub(crate) struct WaitingCalls {
    questions: Sender<Request>,
    answers: Receiver<Result<Request, cow_engine::Error>>,
}

impl WaitingCalls {
    /// Starts the thread. It rings the bell with each answer, if there is one.
    pub(crate) fn start<'s>(
        scope: &'s Scope<'s, '_>,
        image: &'s Image,
        bell: Option<Arc<PipeWriter>>,
    ) -> Self {
        let (questions, inbox) = channel::<Request>();
        let (outbox, answers) = channel();
        scope.spawn(move || {
            for request in inbox {
                let answer = call(image, &request).map(|()| request);
                if outbox.send(answer).is_err() {
                    break;
                }
                if let Some(bell) = &bell {
                    // Nobody listens once the loop is gone.
                    let _ = (&**bell).write_all(&[1]);
                }
            }
        });
        Self { questions, answers }
    }

    pub(crate) fn ask(&self, request: Request) -> Result<(), Failure> {
        self.questions.send(request).map_err(|_| "the thread for calls is gone".into())
    }

    /// An answer, if there is one.
    pub(crate) fn answer(&self) -> Result<Option<Request>, Failure> {
        Ok(self.answers.try_recv().ok().transpose()?)
    }

    /// Waits for an answer.
    pub(crate) fn wait(&self) -> Result<Request, Failure> {
        Ok(self.answers.recv()??)
    }
}

fn call(image: &Image, request: &Request) -> Result<(), cow_engine::Error> {
    match request.kind {
        Kind::Zero => image.write_zeroes_at(request.offset, request.len, ZeroMode::Keep),
        Kind::Discard => image.discard_at(request.offset, request.len),
        _ => image.flush(),
    }
}
