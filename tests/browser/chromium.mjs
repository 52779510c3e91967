// The browser of these tests.
import { chromium } from 'playwright-core';

export const launch = () => chromium.launch({
  executablePath: process.env.CHROMIUM,
  // A browser that connects only to the service.
  args: ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
    .concat(process.getuid() === 0 ? ['--no-sandbox'] : []),
});
