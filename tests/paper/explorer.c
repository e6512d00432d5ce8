// What the page with the sliders computes (paper/explorer/explorer.c), on the machine that the test
// runs on: with the compiler, the BLAS and the instructions of the program mra.
//
// usage: explorer HALVES N D T SPARSE RANKING SCALE... -- BLOCKS... >RESULT
//
// HALVES: Q, K, V as 3 n d halves. RESULT: n n float32 of the exact softmax matrix, n n of the
// approximation, n n int32 (the side of the box of J that covers an entry), n d float32 of the
// output, 12 float64 (explorer.c's numbers), in the machine's byte order.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint16_t *explorer_create(int n, int d);
int *explorer_scale(void);
double *explorer_blocks(void);
const float *explorer_exact(void);
const float *explorer_approximation(void);
const int32_t *explorer_side(void);
const float *explorer_output(void);
const double *explorer_numbers(void);
const char *explorer_message(void);
int explorer_run(int scales, int sparse, int ranking, double t);

int main(int argc, char **argv)
{
    if (argc < 9) return 2;
    const int n = atoi(argv[2]), d = atoi(argv[3]);
    const size_t entries = (size_t)n * (size_t)n, values = (size_t)n * (size_t)d;
    uint16_t *half = explorer_create(n, d);
    FILE *file = fopen(argv[1], "rb");
    if (!half || !file || fread(half, sizeof *half, 3 * values, file) != 3 * values) return 2;
    fclose(file);
    int scales = 0;
    for (; 7 + scales < argc && strcmp(argv[7 + scales], "--"); scales++)
        explorer_scale()[scales] = atoi(argv[7 + scales]);
    for (int i = 1; i < scales && 7 + scales + i < argc; i++)
        explorer_blocks()[i] = atof(argv[7 + scales + i]);
    if (explorer_run(scales, atoi(argv[5]), atoi(argv[6]), atof(argv[4])) != 0) {
        fprintf(stderr, "%s\n", explorer_message());
        return 2;
    }
    fwrite(explorer_exact(), sizeof(float), entries, stdout);
    fwrite(explorer_approximation(), sizeof(float), entries, stdout);
    fwrite(explorer_side(), sizeof(int32_t), entries, stdout);
    fwrite(explorer_output(), sizeof(float), values, stdout);
    fwrite(explorer_numbers(), sizeof(double), 12, stdout);
    return ferror(stdout) || fflush(stdout) ? 2 : 0;
}
