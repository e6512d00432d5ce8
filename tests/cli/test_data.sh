#!/bin/sh
# `mra data`: ListOps files as the Long-Range Arena writes them, the reviews, and what is absent.
. "$(dirname "$0")/../tap.sh"
unset MRA_DATA

small='--train 60 --dev 5 --test 6 --min-length 10 --max-length 80'
# shellcheck disable=SC2086  # the options are words
passes 'prepare listops' "$mra" data prepare listops --out made/here $small --seed 3 --quiet
[ ! -s "$work/stdout" ] && [ ! -s "$work/stderr" ]
ok $? 'quiet is quiet'
for part in train:61 val:6 test:7; do
    [ "$(wc -l <"made/here/basic_${part%:*}.tsv")" -eq "${part#*:}" ]
    ok $? "basic_${part%:*}.tsv has ${part#*:} lines"
done
[ "$(find made/here -type f | wc -l)" -eq 3 ]
ok $? 'and nothing else is there'
head -1 made/here/basic_val.tsv >header
printf 'Source\tTarget\r\n' | cmp -s - header
ok $? 'the header, with the line ends of the published files'
# Balanced parentheses, lengths within the bounds, and no expression twice in any of the files.
cat made/here/*.tsv | tr -d '\r' | grep -v '^Source' | awk -F '\t' '
    { opens = gsub(/\(/, "("); closes = gsub(/\)/, ")")
      gsub(/[()]/, "", $1); n = split($1, words, " ")
      if (opens != closes || n <= 10 || n >= 80 || $2 !~ /^[0-9]$/ || seen[$1]++) bad = 1 }
    END { exit bad || NR != 71 }'
ok $? 'every row is an expression within the bounds, no expression twice'
# shellcheck disable=SC2086
passes 'the same on one thread' "$mra" data prepare listops --out again $small --seed 3 --threads 1
for part in train val test; do
    cmp -s "again/basic_$part.tsv" "made/here/basic_$part.tsv"
    ok $? "the same seed gives the same $part"
done
# shellcheck disable=SC2086
passes 'another seed' "$mra" data prepare listops --out other $small --seed 4 --quiet
! cmp -s other/basic_train.tsv again/basic_train.tsv
ok $? 'gives other expressions'

few='--train 20 --dev 3 --test 4 --seed 3'
# shellcheck disable=SC2086
passes 'prepare pathfinder32' "$mra" data prepare pathfinder32 --out pictures $few --threads 2
# shellcheck disable=SC2086
passes 'the same on one thread' "$mra" data prepare pathfinder32 --out pictures-again $few --threads 1 --quiet
diff -r pictures pictures-again >/dev/null
ok $? 'gives the same file'

passes 'data list' "$mra" data list --from "$work"
prints 'ListOps needs no file' '^listops	present	'
prints 'the reviews are absent, and why' '^text	absent	.*aclImdb_v1.tar.gz.*MRA_DATA'

mkdir archives
for member in train/pos/0_9 train/neg/0_1 test/pos/0_8 test/neg/0_2; do
    mkdir -p "aclImdb/${member%/*}"
    echo "a review of $member" >"aclImdb/$member.txt"
done
tar -czf archives/aclImdb_v1.tar.gz aclImdb
rm -r aclImdb
passes 'data list with an archive' env MRA_DATA=archives "$mra" data list
prints 'the reviews are there, and where' '^text	present	archives/aclImdb_v1.tar.gz	'
passes 'prepare text' "$mra" data prepare text --from archives --out ready
[ "$(find ready -name "imdb-*.bin" | wc -l)" -eq 1 ]
ok $? 'one prepared file'

run env MRA_DATA=archives "$mra" data verify text --quiet
[ "$status" -eq 2 ] && grep -q '2 training and 2 test examples: expected 25000 and 25000' "$work/stderr"
ok $? 'verify counts'
prints 'and says that this is not the official archive' '^SHA-256 [0-9a-f]{64}: not that of the official'
prints 'every member is whole' 'every member whole'
refuses 'verify of what is absent' 'neither cifar-10-binary.tar.gz nor cifar10-jpeg.tar.xz is in the folder nowhere' \
    "$mra" data verify image --from nowhere
refuses 'verify of what has no archive' 'expected prepare listops' "$mra" data verify listops

# Pictures in class folders. A program that makes JPEG is not at hand: two bytes are enough to be named and refused.
mkdir -p photographs/train/eel photographs/val/eel
echo ab >photographs/train/eel/1.JPEG
cp photographs/train/eel/1.JPEG photographs/val/eel/2.JPEG
passes 'data list with pictures' "$mra" data list --from photographs
prints 'they are there' '^imagenet	present	photographs	'
passes 'data list without' "$mra" data list --from nowhere
prints 'or not, and why' '^imagenet	absent	.*imagenet.bin.*in the folder nowhere.*MRA_DATA'
passes 'prepare imagenet' "$mra" data prepare imagenet --from photographs --out ready --quiet
[ -s ready/imagenet.bin ]
ok $? 'one prepared file of pictures'
passes 'data list with the copy' "$mra" data list --from ready
prints 'is found' '^imagenet	present	ready/imagenet.bin	'
refuses 'verify of pictures that are none' 'ready/imagenet.bin: member train/eel/1.JPEG: no whole JPEG' \
    "$mra" data verify imagenet --from ready --quiet
refuses 'the same in folders' 'photographs/train/eel/1.JPEG: no whole JPEG' \
    "$mra" data verify imagenet --from photographs --quiet
refuses 'pictures that are absent' 'imagenet.bin' "$mra" data prepare imagenet --from nowhere --out x --quiet
rm photographs/val/eel/2.JPEG
refuses 'no validation pictures' 'no pictures in val/: expected val/CLASS/' \
    "$mra" data prepare imagenet --from photographs --out x --quiet
[ ! -e x/imagenet.bin ]
ok $? 'and nothing is left'

refuses 'text that is absent' 'neither aclImdb_v1.tar.gz nor .* in the folder nowhere' \
    "$mra" data prepare text --from nowhere --out x --quiet
head -c 100 archives/aclImdb_v1.tar.gz >archives/cut && mv archives/cut archives/aclImdb_v1.tar.gz
refuses 'a truncated archive' 'archives/aclImdb_v1.tar.gz: ' \
    "$mra" data prepare text --from archives --out x --quiet
refuses 'no --out' '--out' "$mra" data prepare listops
refuses 'an unknown data set' 'expected prepare listops' "$mra" data prepare nosuch --out x
refuses 'an unknown verb' 'expected prepare listops' "$mra" data make listops --out x
refuses 'no verb' '.' "$mra" data
refuses 'bounds that leave no length' 'minimum \+ 2 <= maximum' \
    "$mra" data prepare listops --out made --min-length 20 --max-length 21 --quiet
refuses 'too few different expressions' 'too few different expressions' \
    "$mra" data prepare listops --out made --min-length 3 --max-length 5 --train 500 --quiet
refuses 'a folder that is a file' 'header/x: cannot make the folder' \
    "$mra" data prepare listops --out header/x --train 5 --quiet
refuses 'a number that is none' 'train' "$mra" data prepare listops --out x --train many
finish
