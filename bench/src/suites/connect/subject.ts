/** Where to, as whom, and whether with TLS. */
export interface Target {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password: string | undefined;
  /** The root to which the server's certificate leads, PEM; `undefined`: no TLS. */
  readonly ca: string | undefined;
}

/** Opens a connection that can be used, and returns how it is closed. */
export type Connect = () => Promise<() => Promise<void>>;

/** Everything that is done once. */
export type ConnectSubject = (target: Target) => Connect;
