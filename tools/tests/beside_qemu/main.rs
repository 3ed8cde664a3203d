//! Our programs beside the real ones: the same command line on the same images, and every
//! difference in output or exit code is a failure, except where ours are meant to differ.

mod amend;
mod bases;
mod bench;
mod check;
mod compare;
mod convert;
mod convert_options;
mod create;
mod dd;
mod from_pipe;
mod gallery;
mod info;
mod io;
mod map;
mod measure;
mod names;
mod new_verbs;
mod no_space;
mod page_cache;
mod pair;
mod progress;
mod refusal;
mod resize;
mod snapshot;
mod to_pipe;
