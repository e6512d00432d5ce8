// What every page of the book has besides its text: light or dark, and a search that needs no server. The index
// (search-index.js) is fetched when the field is first used, or when the address asks (?q=words).
'use strict';

(() => {
    const root = document.documentElement;
    const remembered = (() => { try { return localStorage.getItem('theme'); } catch { return null; } })();
    if (remembered) root.dataset.theme = remembered;
    const dark = () => (root.dataset.theme ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark';
    document.getElementById('theme').addEventListener('click', () => {
        root.dataset.theme = dark() ? 'light' : 'dark';
        try { localStorage.setItem('theme', root.dataset.theme); } catch { /* a page from a file may have no storage */ }
    });

    // Answers of exercises are folded up on the screen and not on paper.
    addEventListener('beforeprint', () => { for (const answer of document.querySelectorAll('details')) answer.open = true; });

    const field = document.getElementById('search'), list = document.getElementById('search-results');
    let loading = null;
    const load = () => loading ??= new Promise((done, failed) => {
        const script = document.createElement('script');
        script.src = 'search-index.js';
        script.onload = done;
        script.onerror = failed;
        document.head.append(script);
    });

    // Sections that hold every word, those with words in their heading first, then by how often the words occur.
    function matches(words) {
        const found = [];
        for (const [target, page, heading, text] of searchIndex) {
            const low = text.toLowerCase(), head = heading.toLowerCase();
            let score = 0;
            for (const word of words) {
                const times = low.split(word).length - 1;
                if (times === 0) { score = -1; break; }
                score += Math.min(times, 20) + (head.includes(word) ? 100 : 0);
            }
            if (score > 0) found.push({ target, page, heading, text, score, place: low.indexOf(words[0]) });
        }
        return found.sort((a, b) => b.score - a.score).slice(0, 12);
    }
    async function search() {
        const words = field.value.toLowerCase().split(/\s+/).filter((word) => word.length > 1);
        list.replaceChildren();
        if (words.length === 0) return;
        await load();
        const found = matches(words);
        for (const hit of found) {
            const item = document.createElement('li'), link = document.createElement('a'), words_around = document.createElement('span');
            link.href = hit.target;
            link.textContent = hit.page === hit.heading.trim() ? hit.page : `${hit.page}: ${hit.heading.trim()}`;
            words_around.textContent = ' … ' + hit.text.slice(Math.max(0, hit.place - 40), hit.place + 80) + ' …';
            item.append(link, words_around);
            list.append(item);
        }
        if (found.length === 0) list.append(Object.assign(document.createElement('li'), { textContent: 'nothing found' }));
    }
    field.addEventListener('input', search);
    const asked = new URLSearchParams(location.search).get('q');
    if (asked) {
        field.value = asked;
        search();
    }
})();
