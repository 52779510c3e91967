// Every Mermaid diagram of the Markdown pages, read and drawn by Mermaid itself. Run through scripts/browser.sh.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { launch } from './chromium.mjs';

const mermaid = createRequire(import.meta.url).resolve('@mermaid-js/tiny');
const pages = ['README.md', ...readdirSync('docs').filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`)];
let browser, page;

before(async () => {
  browser = await launch();
  page = await browser.newPage({ viewport: { width: 1000, height: 800 } });
  await page.addScriptTag({ path: mermaid });
});
after(() => browser?.close());

const diagrams = (name) => [...readFileSync(name, 'utf8').matchAll(/^```mermaid\n(.*?)^```/gms)].map(([, text]) => text);

for (const name of pages.filter((name) => diagrams(name).length)) {
  test(`the diagrams of ${name} are drawn`, async () => {
    for (const [number, text] of diagrams(name).entries()) {
      const lines = await page.evaluate(async (text) => {
        await globalThis.mermaid.parse(text);
        const { svg } = await globalThis.mermaid.render('diagram', text);
        document.body.innerHTML = svg;
        return document.querySelectorAll('.messageText, .noteText').length;
      }, text).catch((error) => assert.fail(`${name}, diagram ${number + 1}: ${error}\n${text}`));
      assert.ok(lines > 2, `${name}, diagram ${number + 1} shows ${lines} lines`);
      await page.locator('svg').first().screenshot({ path: `target/browser/${name.replace(/\W+/g, '-')}-${number + 1}.png` });
    }
  });
}

test('a wrong diagram is refused', async () => {
  const parse = (text) => page.evaluate((text) => globalThis.mermaid.parse(text), text);
  await assert.rejects(parse('sequenceDiagram\n    A->>: nothing\n'));
});

test('no diagram of docs/designs.md is overlooked', () => {
  const generated = readFileSync('docs/designs.md', 'utf8').match(/^<!-- generated: diagram /gm);
  assert.equal(diagrams('docs/designs.md').length, generated.length);
});
