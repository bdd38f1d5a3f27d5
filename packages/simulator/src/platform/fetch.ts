import { type IncomingMessage, request } from 'node:http';

/** `fetch` over Node's own HTTP, which the simulation reaches, for what the product uses of it. */
export function fetchAtOnce(target: string | URL, init: RequestInit = {}): Promise<Response> {
  const { method = 'GET', headers = {}, body = null, signal = null } = init;
  return new Promise((resolve, reject) => {
    const sent = request(
      new URL(target),
      {
        method,
        headers: headers as Record<string, string>,
        ...(signal === null ? {} : { signal }),
      },
      (answer) => resolve(responseOf(answer)),
    );
    sent.on('error', (cause) => reject(new TypeError('fetch failed', { cause })));
    sent.end(body ?? undefined);
  });
}

function responseOf(answer: IncomingMessage): Response {
  let isOver = false;
  const stream = new ReadableStream<Uint8Array>({
    start: (controller) => {
      answer.on('data', (bytes: Buffer) => {
        if (!isOver) controller.enqueue(new Uint8Array(bytes));
      });
      answer.on('end', () => {
        if (!isOver) controller.close();
        isOver = true;
      });
      answer.on('error', (error) => {
        if (!isOver) controller.error(error);
        isOver = true;
      });
    },
    cancel: () => {
      isOver = true;
      answer.destroy();
    },
  });
  const headers = answer.headers as Record<string, string>;
  return new Response(stream, { status: answer.statusCode ?? 500, headers });
}
