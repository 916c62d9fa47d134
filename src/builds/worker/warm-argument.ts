/** Has the worker's program load its code and end: what fills the compile cache. */
export const WARM_ARGUMENT = '--warm';
