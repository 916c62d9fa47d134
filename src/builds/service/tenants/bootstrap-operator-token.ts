import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { BuilderdError, messageOf } from '../../../core/errors.ts';
import { writeAudit } from '../../../store/audit/write-audit.ts';
import type { Database } from '../../../store/database.ts';
import { isTokenText, newTokenText } from '../../../store/tokens/token-record.ts';
import {
  findLiveToken,
  hasLiveOperatorToken,
  insertToken,
  isKnownToken,
} from '../../../store/tokens/token-rows.ts';

export type BootstrapOutcome =
  /** There is an operator token already. */
  | { readonly kind: 'present' }
  /** The token of the file was taken over. */
  | { readonly kind: 'from-file' }
  /** A new one: to be shown once, on the terminal or in a file of root's, never in a log. */
  | { readonly kind: 'made'; readonly secret: string };

const BY = { actor: 'local', requestId: '', address: 'local' };
const LOCK_KEY = 'operator_token';
const MAX_FILE_BYTES = 4096;

/**
 * Sees to it that somebody can log in: takes the token that the operator wrote into a file, or
 * makes one when no operator token is alive. Several processes may start at once; one makes it.
 * Throws `config.invalid` for a bad file, and for one whose token was revoked or is another's.
 */
export async function bootstrapOperatorToken(
  database: Database,
  { tokenFile, signal }: { readonly tokenFile?: string; readonly signal: AbortSignal },
): Promise<BootstrapOutcome> {
  const given = tokenFile === undefined ? undefined : await readTokenFile(tokenFile);
  return database.transaction(
    async (tx): Promise<BootstrapOutcome> => {
      // Its row lock makes the others wait until this transaction is through.
      await tx.k
        .insertInto('meta')
        .values({ key: LOCK_KEY, value: '' })
        .onConflict((conflict) => conflict.column('key').doUpdateSet({ value: '' }))
        .execute();
      if (given === undefined && (await hasLiveOperatorToken(tx))) return { kind: 'present' };
      const text = given ?? newTokenText();
      if (await isKnownToken(tx, text)) {
        const known = await findLiveToken(tx, text);
        if (known?.token.role === 'operator') return { kind: 'present' };
        throw unusable('it was revoked, has expired or is not an operator token');
      }
      const token = await insertToken(tx, {
        text,
        role: 'operator',
        name: given === undefined ? 'first start' : 'OPERATOR_TOKEN_FILE',
        createdBy: BY.actor,
      });
      await writeAudit(tx, BY, {
        action: 'token.create',
        target: token.id,
        newValue: { prefix: token.prefix, role: token.role, name: token.name },
      });
      return given === undefined ? { kind: 'made', secret: text } : { kind: 'from-file' };
    },
    { signal },
  );
}

async function readTokenFile(file: string): Promise<string> {
  let text: string;
  try {
    await using handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
    const facts = await handle.stat();
    if (!facts.isFile() || facts.size > MAX_FILE_BYTES) {
      throw unusable(`${file} is no regular file of at most ${MAX_FILE_BYTES} bytes`);
    }
    if ((facts.mode & 0o007) !== 0) throw unusable(`everybody may use ${file}; chmod o= it`);
    text = (await handle.readFile('utf8')).trim();
  } catch (reason) {
    if (reason instanceof BuilderdError) throw reason;
    throw unusable(messageOf(reason), reason);
  }
  if (!isTokenText(text))
    throw unusable(`${file} does not hold bld_ and 43 characters of base64url`);
  return text;
}

function unusable(fact: string, cause?: unknown): BuilderdError {
  return new BuilderdError(
    'config.invalid',
    `Cannot use the operator token of OPERATOR_TOKEN_FILE: ${fact}`,
    {
      ...(cause === undefined ? {} : { cause }),
    },
  );
}
