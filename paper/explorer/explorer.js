// The page with the sliders. What it shows is computed by explorer.c, which is src/mra compiled to WebAssembly; here
// are only the controls and the pictures. The settings stand in the address after #, so that a setting can be linked to.
'use strict';

const explorer = (() => {
    const sides = [128, 64, 32, 16, 8, 4, 2];
    const names = ['head', 'coarsest', 'steps', 'budget', 'later', 'temperature', 'method', 'ranking'];
    const control = {};
    let wasm, place, pending = false;
    const floor = -6;

    // ---- The module

    const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

    // The C library wants a system beneath it (to print, to read a clock). Nothing on this page asks for one: every
    // call is answered by "not supported" (52 in WASI).
    async function load() {
        const module = await WebAssembly.compile(bytes(explorerModule));
        const system = {};
        for (const { module: from, name } of WebAssembly.Module.imports(module))
            (system[from] ??= {})[name] = () => 52;
        wasm = (await WebAssembly.instantiate(module, system)).exports;
        wasm._initialize();
        const halves = explorerHeads[0];
        place = wasm.explorer_create(halves.n, halves.d);
        if (place === 0) throw new Error('no memory for a head');
    }
    const floats = (at, count) => new Float32Array(wasm.memory.buffer, at, count);
    const text = (at) => {
        const all = new Uint8Array(wasm.memory.buffer);
        let end = at;
        while (all[end] !== 0) end++;
        return new TextDecoder().decode(all.subarray(at, end));
    };

    // ---- Settings

    // R for a coarsest side 2^p and k refinements: exponents p, ..., 0 in nearly equal steps.
    function scales(coarsest, steps) {
        const p = Math.log2(coarsest), k = Math.min(steps, p);
        return Array.from({ length: k + 1 }, (_, i) => 2 ** Math.round(p * (k - i) / k));
    }
    function settings() {
        const value = (name) => Number(control[name].value);
        const side = scales(sides[value('coarsest')], value('steps'));
        return { head: value('head'), side, budget: 2 ** value('budget'), later: 2 ** value('later'),
                 t: 2 ** value('temperature'), sparse: value('method'), ranking: value('ranking') };
    }
    const toAddress = () => '#' + names.map((name) => `${name}=${control[name].value}`).join('&');
    function fromAddress() {
        for (const [name, value] of new URLSearchParams(location.hash.slice(1)))
            if (names.includes(name)) control[name].value = value;
    }

    // ---- One computation

    function compute(s) {
        const head = explorerHeads[s.head];
        new Uint8Array(wasm.memory.buffer).set(bytes(head.halves), place);
        new Int32Array(wasm.memory.buffer, wasm.explorer_scale(), s.side.length).set(s.side);
        const blocks = new Float64Array(wasm.memory.buffer, wasm.explorer_blocks(), s.side.length);
        for (let i = 1; i < s.side.length; i++) blocks[i] = i === 1 ? s.budget : s.later;
        if (wasm.explorer_run(s.side.length, s.sparse, s.ranking, s.t) !== 0)
            throw new Error(text(wasm.explorer_message()));
        const n = head.n, number = new Float64Array(wasm.memory.buffer, wasm.explorer_numbers(), 12);
        return { n, d: head.d, exact: floats(wasm.explorer_exact(), n * n),
                 approximation: floats(wasm.explorer_approximation(), n * n),
                 side: new Int32Array(wasm.memory.buffer, wasm.explorer_side(), n * n),
                 output: floats(wasm.explorer_output(), n * head.d),
                 matrixError: number[0], outputError: number[1], entropy: number[2], emptyRows: number[3],
                 boxes: Array.from(number.subarray(4, 4 + s.side.length)) };
    }

    // ---- Pictures

    // Dark blue to yellow through a few fixed colours, lightness rising throughout.
    const stops = [[13, 8, 60], [66, 30, 120], [140, 41, 129], [210, 72, 100], [245, 135, 55], [252, 255, 164]];
    const map = Array.from({ length: 256 }, (_, i) => {
        const x = i / 255 * (stops.length - 1), k = Math.min(stops.length - 2, Math.floor(x));
        return stops[k].map((c, j) => Math.round(c + (x - k) * (stops[k + 1][j] - c)));
    });
    function paint(id, n, colour) {
        const canvas = document.getElementById(id);
        canvas.width = canvas.height = n;
        const context = canvas.getContext('2d'), image = context.createImageData(n, n);
        for (let i = 0; i < n * n; i++) {
            const [r, g, b] = colour(i);
            image.data.set([r, g, b, 255], 4 * i);
        }
        context.putImageData(image, 0, 0);
    }
    const logarithmic = (value) => {
        const x = value > 0 ? 1 - Math.log10(value) / floor : 0;
        return map[Math.max(0, Math.min(255, Math.round(255 * x)))];
    };
    // J: the smaller the box, the lighter; white where there is none; its edges are drawn where they can be seen.
    function boxColour(result, s, i) {
        const side = result.side[i];
        if (side === 0) return [255, 255, 255];
        const row = Math.floor(i / result.n), column = i % result.n;
        if (side >= 8 && (row % side === 0 || column % side === 0)) return [20, 20, 40];
        const level = s.side.indexOf(side);
        return map[Math.round(60 + 180 * level / (s.side.length - 1))];
    }

    function show(s, result) {
        const put = (id, value) => { document.getElementById(id).textContent = value; };
        put('value-coarsest', sides[Number(control.coarsest.value)]);
        put('value-steps', 'R = {' + s.side.join(', ') + '}');
        put('value-budget', s.budget.toPrecision(3) + ' boxes a row of boxes');
        put('value-later', s.side.length > 2 ? s.later.toPrecision(3) + ' boxes a row of boxes' : 'no later step');
        put('value-temperature', 'logits times ' + s.t.toPrecision(3));
        control.later.disabled = s.side.length <= 2;
        put('result-matrix', result.matrixError.toPrecision(6));
        put('result-output', result.outputError.toPrecision(6));
        put('result-entropy', result.entropy.toPrecision(6));
        put('result-boxes', result.boxes.map((count, i) => `${count} of side ${s.side[i]}`).join(', '));
        const total = result.boxes.reduce((a, b) => a + b, 0);
        put('result-share', (100 * total / result.n ** 2).toPrecision(3) + ' %');
        put('result-empty', String(result.emptyRows));
        paint('picture-exact', result.n, (i) => logarithmic(result.exact[i]));
        paint('picture-boxes', result.n, (i) => boxColour(result, s, i));
        paint('picture-approximation', result.n, (i) => logarithmic(result.approximation[i]));
        paint('picture-error', result.n, (i) => logarithmic(Math.abs(result.exact[i] - result.approximation[i])));
    }

    function update() {
        pending = false;
        const status = document.getElementById('explorer-status'), s = settings();
        try {
            explorer.result = compute(s);
            show(s, explorer.result);
            status.textContent = '';
        } catch (error) {
            status.textContent = error.message;
        }
        document.documentElement.dataset.explorer = 'ready';
    }
    function later() {
        if (pending) return;
        pending = true;
        requestAnimationFrame(update);
    }

    async function start() {
        for (const name of names) control[name] = document.getElementById('control-' + name);
        explorerHeads.forEach((head, i) => control.head.add(new Option(head.name, i)));
        fromAddress();
        await load();
        for (const name of names)
            control[name].addEventListener('input', () => { history.replaceState(null, '', toAddress()); later(); });
        addEventListener('hashchange', () => { fromAddress(); later(); });
        update();
    }
    return { start };
})();

if (typeof explorerModule === 'undefined')
    document.getElementById('explorer-status').textContent =
        'This copy of the book was made without clang for WebAssembly; make book on a machine that has it builds the page.';
else
    explorer.start().catch((error) => { document.getElementById('explorer-status').textContent = error.message; });
