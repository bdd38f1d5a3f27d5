import { config } from 'zod';

// Before any schema is made: zod would compile them by `new Function`, which the page's content
// security policy forbids.
config({ jitless: true });
