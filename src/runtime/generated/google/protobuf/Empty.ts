// Generated: see contrib/dev/gen-proto.ts


export interface Empty {
}

export interface Empty__Output {
}
